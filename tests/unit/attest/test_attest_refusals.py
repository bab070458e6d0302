# SPDX-License-Identifier: GPL-2.0-or-later
"""What is refused: each number of the tamper catalogue (docs/threat-model.md) within tier 1.

Each case spoils one thing of a good node and must be refused with exactly one reason code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mock_cloud.attest.check_files import InjectedFile
from mock_cloud.attest.policy import Check, Policy
from mock_cloud.attest.verdict import NodeRefused
from mock_cloud.errors import EXIT_REFUSED, AttestationRefused
from tests.unit.attest.attest_builder import (
    DATA,
    INJECTED,
    LAYER,
    SKIP,
    Node,
    binding,
    blob,
    judge,
    manifest,
    mount,
    sha256,
    toolkit,
    unlabelled_strict,
)

EVIL = sha256("evil")
CAPABILITY = {"security.capability": "01000002" + "00200000" + "00000000" * 3}
TOOLS = toolkit().node_dir


def codes(refusal: AttestationRefused) -> set[str]:
    return {reason.code for reason in refusal.reasons}


def refused(node: Node, **how: Any) -> NodeRefused:
    with pytest.raises(NodeRefused) as caught:
        judge(node, **how)
    assert caught.value.exit_code == EXIT_REFUSED
    assert not caught.value.verdict.trusted
    return caught.value


def change(path: str, **facts: Any) -> Callable[[Node], None]:
    """Change some of a file's facts."""
    places = {"type": 1, "mode": 2, "uid": 3, "gid": 4, "size": 5, "value": 6, "xattrs": 7}

    def spoil(node: Node) -> None:
        for name, value in facts.items():
            node.files[path][places[name]] = value

    return spoil


def digest(path: str) -> Callable[[Node], None]:
    return change(path, value=EVIL)


def add(path: str, *, mode: int = 0o644) -> Callable[[Node], None]:
    return lambda node: node.add_file(path, EVIL, mode=mode)


def remove(path: str) -> Callable[[Node], None]:
    return lambda node: node.files.__delitem__(path)


def link(path: str, target: str) -> Callable[[Node], None]:
    return lambda node: node.add_link(path, target)


def mounted(point: str, kind: str, **facts: Any) -> Callable[[Node], None]:
    return lambda node: node.top["mounts"].append(mount(point, kind, 9) | facts)


def sshd(**facts: Any) -> Callable[[Node], None]:
    return lambda node: node.sshd.update(facts)


def agent(**facts: Any) -> Callable[[Node], None]:
    return lambda node: node.agent.update(facts)


def kernel(**facts: Any) -> Callable[[Node], None]:
    return lambda node: node.top["kernel"].update(facts)


SYSTEMD_AGENT = "/usr/lib/systemd/systemd-cgroups-agent"


def helpers(**facts: Any) -> Callable[[Node], None]:
    return lambda node: node.top["helpers"].update(facts)


def released(hierarchy: str, agent: str | None) -> Callable[[Node], None]:
    return helpers(release_agents=[["cpu", ""], [hierarchy, agent]])


def top(**facts: Any) -> Callable[[Node], None]:
    return lambda node: node.top.update(facts)


def running(exe: str, *argv: str) -> Callable[[Node], None]:
    def spoil(node: Node) -> None:
        node.top["processes"].append(node.process(77, 1, exe, list(argv)))

    return spoil


def contained(name: str) -> Callable[[Node], None]:
    """All of the node is in another namespace of this kind."""

    def spoil(node: Node) -> None:
        for spaces in node.top["namespaces"].values():
            spaces[name] = 4026532178
        for process in node.top["processes"]:
            process["namespaces"][name] = 4026532178

    return spoil


def mapped(path: str, deleted: bool, value: str | None) -> Callable[[Node], None]:
    return lambda node: node.sshd["maps"].append([path, deleted, value])


FILES = [
    (1, digest("/usr/bin/bash"), "file.digest"),
    (1, digest("/usr/sbin/sshd"), "file.digest"),  # %verify(not md5) is not honoured
    (1, change("/usr/bin/bash", size=99), "file.digest"),
    (1, change("/usr/bin/bash", type="d", size=0, value=None), "file.type"),
    (2, add("/usr/bin/backdoor", mode=0o755), "file.unknown"),
    (2, lambda node: node.add_directory("/usr/lib64/evil"), "file.unknown"),
    (3, remove("/usr/bin/bash"), "file.missing"),
    (3, remove("/etc/pam.d/sshd"), "file.missing"),
    (4, add("/tmp/sh", mode=0o4755), "file.unknown"),
    (4, change("/usr/bin/bash", mode=0o4755), "file.mode"),
    (4, change("/var/log/wtmp", mode=0o4755), "file.volatile"),
    (4, change("/var/log/wtmp", mode=0o755), "file.volatile"),
    (5, change("/usr/bin/bash", xattrs=CAPABILITY), "file.capabilities"),
    (5, change("/usr/bin/ping", xattrs=None), "file.capabilities"),
    (6, change("/usr/bin/bash", uid=1000), "file.owner"),
    (6, change("/var/lib/tools", gid=0), "file.owner"),
    (6, change("/usr/bin/bash", mode=0o777), "file.mode"),
    (6, change("/usr/bin/bash", xattrs={"system.posix_acl_access": "02"}), "file.xattr"),
    (7, change("/usr/bin/sh", value="/tmp/sh"), "file.target"),
    (7, change("/etc/alternatives/editor", value="/tmp/vi"), "file.target"),
    (7, change("/bin", value="/tmp/bin"), "file.target"),
    (7, link("/usr/local", "/tmp/local"), "file.unknown"),
    (8, mounted("/usr/bin/bash", "ext4", root="/tmp/evil"), "mount.unknown"),
    (8, mounted("/usr", "overlay"), "mount.unknown"),
    (8, mounted("/proc", "proc", root="/1"), "mount.bind mount.stacked"),
    (8, mounted("/run", "tmpfs", root="/evil"), "mount.bind"),
    (8, mounted("/dev", "tmpfs"), "mount.stacked"),
    (8, mounted("/", "overlay"), "mount.stacked"),
    (8, top(mounts=[mount("/", "ext4", 1)]), "mount.missing"),
    (8, lambda node: node.top["unreadable"].append(["/usr", "crossed"]), "mount.crossed"),
    (9, lambda node: node.top["unreadable"].append(["/usr/bin", "EACCES"]), "file.unreadable"),
    (9, lambda node: node.top["unreadable"].append(["/usr/x", "changed"]), "file.changed"),
    (9, lambda node: node.top["unreadable"].append(["/usr/x", "ENOENT"]), "file.unreadable"),
    (9, lambda node: node.top["unreadable"].append([LAYER, "EACCES"]), "file.unreadable"),
    (9, lambda node: node.top["unreadable"].append([f"{LAYER}/x", "ENOENT"]), "file.unreadable"),
    (10, mounted("/run", "fuse.sshfs"), "mount.type"),
    (10, mounted("/", "nfs4"), "mount.type mount.stacked"),
    (10, mounted("/mnt", "fuse"), "mount.unknown"),
]
LOGIN = [
    (13, add("/etc/ld.so.preload"), "file.unknown"),
    (14, digest("/etc/ld.so.cache"), "file.digest"),
    (14, add("/etc/ld.so.conf.d/evil.conf"), "file.unknown"),
    (15, sshd(environ={"LD_PRELOAD": "/tmp/evil.so"}), "process.environment"),
    (15, agent(environ={"PYTHONPATH": "/tmp"}), "process.environment"),
    (15, add("/etc/environment"), "file.unknown"),
    (15, add("/etc/profile.d/evil.sh"), "file.unknown"),
    (16, digest("/etc/pam.d/sshd"), "file.digest"),
    (16, add("/usr/lib64/security/pam_evil.so", mode=0o755), "file.unknown"),
    (17, add("/usr/lib64/libnss_evil.so.2", mode=0o755), "file.unknown"),
    (18, digest("/etc/ssh/sshd_config"), "file.digest"),
    (18, add("/etc/ssh/sshd_config.d/evil.conf"), "file.unknown"),
    (
        18,
        sshd(cmdline=["/usr/sbin/sshd", "-o", "AuthorizedKeysCommand=/tmp/evil"]),
        "process.unknown",
    ),
    (18, sshd(cmdline=["/usr/sbin/sshd", "-f", "/tmp/sshd_config"]), "process.unknown"),
    (
        18,
        sshd(cmdline=["sshd: /usr/sbin/sshd -o PermitRootLogin=yes [listener] 0 of 1 startups"]),
        "process.unknown",
    ),
    (18, sshd(cmdline=["sshd: mallory@pts/0"]), "process.unknown"),
    (19, digest("/root/.ssh/authorized_keys"), "file.digest"),
    (19, remove("/root/.ssh/authorized_keys"), "file.missing"),
    (19, add("/root/.ssh/authorized_keys2"), "file.unknown"),
    (20, digest("/etc/passwd"), "file.digest"),
    (20, digest("/etc/shadow"), "file.digest"),
    (20, add("/etc/sudoers.d/evil"), "file.unknown"),
    (20, add("/etc/polkit-1/rules.d/evil.rules"), "file.unknown"),
]
PERSISTENCE = [
    (22, add("/etc/systemd/system/evil.service"), "file.unknown"),
    (22, add("/run/systemd/system/evil.service"), "file.unknown"),
    (22, add("/usr/lib/systemd/system/sshd.service.d/evil.conf"), "file.unknown"),
    (23, add("/usr/lib/systemd/system-generators/evil", mode=0o755), "file.unknown"),
    (23, add("/etc/systemd/system/evil.timer"), "file.unknown"),
    (24, add("/var/spool/cron/root"), "file.unknown"),
    (24, add("/etc/cron.d/evil"), "file.unknown"),
    (24, add("/var/spool/at/a00001"), "file.unknown"),
    (25, add("/etc/udev/rules.d/99-evil.rules"), "file.unknown"),
    (25, add("/etc/modprobe.d/evil.conf"), "file.unknown"),
    (26, kernel(core_pattern="|/tmp/evil %p"), "kernel.core-pattern"),
    (26, kernel(core_pattern="/etc/cron.d/core"), "kernel.core-pattern"),
    (26, kernel(modprobe="/tmp/evil"), "kernel.helper"),
    (26, kernel(poweroff_cmd="/tmp/evil"), "kernel.helper"),
    (26, kernel(uevent_helper="/tmp/evil"), "kernel.helper"),
    (27, kernel(binfmt=["evil"]), "kernel.binfmt"),
    (27, add("/etc/binfmt.d/evil.conf"), "file.unknown"),
    (28, add("/boot/vmlinuz-evil", mode=0o755), "file.unknown"),
    (28, add("/boot/loader/entries/evil.conf"), "file.unknown"),
    (28, kernel(cmdline="root=/dev/vda1 init=/tmp/evil"), "kernel.cmdline"),
]
PROCESSES = [
    (29, sshd(deleted=True), "process.deleted"),
    (
        30,
        sshd(exe="/memfd:evil", deleted=True),
        "process.deleted process.memfd process.unknown socket.unknown",
    ),
    (30, sshd(exe=None, sha256=None), "process.memfd process.unknown socket.unknown"),
    (31, sshd(patched=["/usr/lib64/libc.so.6"]), "process.patched"),
    (31, sshd(sha256=EVIL), "process.digest"),
    (32, sshd(anonymous_exec=1), "process.anonymous-code"),
    (32, agent(anonymous_exec=1), "process.anonymous-code"),
    (33, top(hidden_pids=[666]), "process.hidden"),
    (33, lambda node: node.top["sockets"].append(["tcp", "::", 4444, None]), "socket.unowned"),
    (34, sshd(tracer=666), "process.traced"),
    (34, agent(tracer=666), "process.traced"),
    (35, lambda node: node.top["namespaces"]["self"].update(mnt=1), "agent.namespace"),
    (
        35,
        lambda node: node.top.update(namespaces={"init": {}, "self": {}}),
        "agent.namespace process.namespace",
    ),
    (35, agent(namespaces={"mnt": 1, "pid": 2, "net": 3}), "process.namespace"),
    (35, agent(root="/srv/jail"), "process.root"),
    (35, agent(exe="/usr/bin/bash"), "agent.identity process.digest process.unknown"),
    (35, agent(cmdline=["ld.so", "/tmp/agent.py"]), "agent.identity process.unknown"),
    (35, top(self=666), "agent.identity connection.unknown login.agent login.session"),
    ("x", running("/usr/bin/bash", "bash", "-c", "evil"), "process.unknown"),
    ("x", mapped("/tmp/evil.so", False, EVIL), "process.map"),
    ("x", mapped("/usr/lib64/libc.so.6", False, EVIL), "process.map-digest"),
    ("x", mapped("/usr/lib64/libc.so.6", True, None), "process.map-deleted"),
    ("x", mapped("/var/log/wtmp", False, sha256("wtmp")), "process.map"),
    (
        "x",
        lambda node: node.top["processes"][3].update(pid=666, ppid=1),
        "node.container process.kernel-thread",
    ),
    ("x", lambda node: node.top["processes"][4].update(cmdline=["x"]), "process.kernel-thread"),
    (
        "x",
        top(processes=[]),
        "agent.identity connection.unowned node.container process.none socket.unknown",
    ),
    ("x", lambda node: node.top["sockets"].append(["tcp", "::", 4444, 1]), "socket.unknown"),
    ("x", lambda node: node.top["sockets"].append(["tcp", "::", 22, 30]), "socket.unknown"),
]
MACHINE = [
    ("machine", contained(name), "node.container")
    for name in ("cgroup", "ipc", "pid", "time", "user", "uts")
] + [
    ("machine", lambda node: node.top["processes"].__delitem__(slice(3, 5)), "node.container"),
    ("machine", lambda node: node.top["processes"][3].update(pid=4, ppid=2), "node.container"),
]
KERNEL = [
    (36, kernel(modules=["evil", "overlay"], modules_sysfs=["overlay", "evil"]), "kernel.module"),
    (37, kernel(modules_sysfs=["kernel", "overlay", "virtio_net", "evil"]), "kernel.module"),
    (37, kernel(modules_sysfs=["kernel", "overlay"]), "kernel.module-hidden"),
    (37, kernel(tainted=4096), "kernel.tainted"),
    (38, kernel(bpf_programs=[[9, "kprobe", "evil", "aa"]]), "kernel.bpf"),
    (38, kernel(bpf_programs=[[9, 2, "", "f7d8ec7a0f8e77ef"]]), "kernel.bpf"),
    (38, kernel(bpf_programs=[[9, 12, "1,", "f7d8ec7a0f8e77ef"]]), "kernel.bpf"),
    (39, kernel(kprobes=["ffffffff81 k sys_read"]), "kernel.kprobe"),
    (40, kernel(kexec_loaded=1), "kernel.kexec"),
    (40, kernel(livepatches=["evil"]), "kernel.livepatch"),
    (41, kernel(tainted=8192), "kernel.tainted"),
    ("helper", released("memory", "/tmp/evil"), "kernel.release-agent"),
    ("helper", released("name=systemd", "/tmp/evil"), "kernel.release-agent"),
    ("helper", released("memory", SYSTEMD_AGENT), "kernel.release-agent"),
    ("helper", released("memory", None), "kernel.release-agent"),
    ("helper", helpers(release_agents=None), "kernel.unknown"),
    ("helper", top(helpers=None), "kernel.unknown"),
    ("helper", helpers(programs=[["nfs.cache_getent", "/tmp/evil"]]), "kernel.helper"),
    ("helper", helpers(programs=[["firmware_class.path", "/tmp"]]), "kernel.helper"),
    ("helper", helpers(programs=[["new.setting", ""]]), "kernel.helper"),
    ("x", top(kernel=None), "kernel.unknown"),
    ("x", top(uname=["Linux", "node", "6.1.0", "#1", "riscv64"]), "kernel.arch"),
]
BUILD = [
    (47, change("/etc/hostname", value=EVIL), "file.digest"),
    (47, add("/etc/yum.repos.d/evil.repo"), "file.unknown"),
    (48, add("/etc/pki/ca-trust/source/anchors/evil.pem"), "file.unknown"),
    (
        49,
        lambda node: node.add_header((DATA / "gpg-pubkey.hdr").read_bytes()),
        "package.not-allowed",
    ),
    (49, add("/etc/pki/rpm-gpg/RPM-GPG-KEY-evil"), "file.unknown"),
    (50, add("/etc/dnf/plugins/evil.conf"), "file.unknown"),
    (50, add("/usr/lib/python3/site-packages/dnf-plugins/evil.py"), "file.unknown"),
    (51, add("/etc/rpm/macros.evil"), "file.unknown"),
    (51, add("/usr/lib/rpm/fileattrs/evil.attr"), "file.unknown"),
    (51, add("/usr/lib64/rpm-plugins/evil.so", mode=0o755), "file.unknown"),
    (52, add("/usr/lib/python3/site-packages/evil.pth"), "file.unknown"),
    (52, add("/usr/lib/python3/__pycache__/os.pyc"), "file.unknown"),
    (53, add("/usr/lib64/gcc/specs"), "file.unknown"),
    (53, sshd(environ={"GCC_EXEC_PREFIX": "/tmp"}), "process.environment"),
    (54, add("/etc/mock/site-defaults.cfg"), "file.unknown"),
    (54, lambda node: node.top["trees"][LAYER].update(sha256=EVIL), "layer.digest"),
    (
        54,
        lambda node: node.top["trees"].update({"/usr/lib64": node.top["trees"][LAYER]}),
        "layer.place",
    ),
    (54, add("/var/lib/mock-cloud/jobs/run.sh", mode=0o755), "file.unknown"),
    (54, lambda node: node.add_link("/var/lib/mock-cloud/jobs/link", "/"), "file.unknown"),
    (55, digest("/var/lib/rpm/rpmdb.sqlite"), "file.digest"),
    (
        55,
        lambda node: node.remove_header(blob("tools")),
        "package.missing file.unknown process.executable process.map",
    ),
    (55, lambda node: node.add_header(blob("tools") + b"x"), "package.malformed"),
    (55, lambda node: node.blobs.clear(), "*package.no-header"),
    (
        55,
        lambda node: node.blobs.update(dict.fromkeys(node.blobs, blob("other"))),
        "*package.header-digest",
    ),
    (55, lambda node: node.add_header(blob("tools-unsigned")), "package.unsigned"),
    (55, lambda node: node.add_header(blob("tools-stranger")), "package.unsigned"),
    (55, lambda node: node.add_header(blob("other")), "package.not-allowed"),
    (56, lambda node: node.add_header(blob("tools-old")), "*package.old"),
    (56, lambda node: node.replace_header("tools", "tools-old"), "*package.old"),
]
PROTOCOL = [
    (57, lambda node: node.top["unreadable"].append(["/etc/passwd", "changed"]), "file.changed"),
    (59, top(nonce="00" * 32), "evidence.nonce"),
    (59, top(nonce=""), "evidence.nonce"),
    ("x", top(skip=["/usr", *SKIP]), "*evidence.skip"),
    ("x", top(skip=[]), "evidence.skip"),
    ("x", top(schema="mock-cloud/evidence/1"), "evidence.malformed"),
    ("toolkit", digest(f"{TOOLS}/ld.so"), "toolkit.digest"),
    ("toolkit", change(f"{TOOLS}/bin/python3", mode=0o777), "toolkit.mode"),
    ("toolkit", change(f"{TOOLS}/bin/python3", uid=1000), "toolkit.owner"),
    ("toolkit", remove(f"{TOOLS}/agent/main.py"), "toolkit.missing"),
    ("toolkit", add(f"{TOOLS}/lib/evil.so"), "toolkit.unknown"),
    ("toolkit", add("/var/lib/mock-cloud/toolkit/other/ld.so"), "toolkit.unknown"),
    ("toolkit", change(f"{TOOLS}/lib", mode=0o777), "toolkit.unknown"),
    ("ghost", add("/var/lib/tools/state"), "file.ghost"),
    ("config", digest("/etc/tools.conf"), "file.digest"),
    ("device", change("/dev/null", value="1:1"), "file.device"),
    ("device", lambda node: node.files.update({"/dev/mem": ["/dev/mem", "c", 0o666, 0, 0, 0,
     "1:1", None]}), "file.volatile"),
    ("device", lambda node: node.files.update({"/usr/mem": ["/usr/mem", "c", 0o600, 0, 0, 0,
     "1:1", None]}), "file.unknown"),
]  # fmt: skip
CASES = [
    pytest.param(spoil, wanted, id=f"{number}-{wanted.split()[0]}-{index}")
    for index, (number, spoil, wanted) in enumerate(
        FILES + LOGIN + PERSISTENCE + PROCESSES + MACHINE + KERNEL + BUILD + PROTOCOL
    )
]


@pytest.mark.parametrize(("spoil", "wanted"), CASES)
def test_one_spoilt_thing_is_refused_for_that_reason(
    spoil: Callable[[Node], None], wanted: str
) -> None:
    """Exactly the codes in `wanted`; after a star at least these."""
    node = Node().boot()
    spoil(node)
    found = codes(refused(node))
    if wanted.startswith("*"):
        assert set(wanted[1:].split()) <= found
    else:
        assert found == set(wanted.split())


def test_the_empty_policy_refuses_even_a_good_node() -> None:
    assert codes(refused(Node().boot(), policy=Policy())) == {"policy.empty"}


def test_what_may_vary_has_one_name() -> None:
    node = Node().boot()
    node.top["unreadable"] = [["/etc/passwd", "linked"], ["/usr/bin/bash", "linked"]]
    judge(node)
    for path in ("/run/sshd.pid", "/var/lib/mock-cloud/leases"):
        other = Node().boot()
        other.files[path] = [path, "f", 0o644, 0, 0, 1, sha256("1"), None]
        judge(other)
        other.top["unreadable"] = [[path, "linked"]]
        assert codes(refused(other)) == {"file.linked"}
        del other.files[path]
    node.top["unreadable"] = [["/usr/bin/bash", "linked"]]
    del node.files["/usr/bin/bash"]
    assert "file.missing" in codes(refused(node))


@pytest.mark.parametrize("check", sorted(Check, key=lambda one: one.name))
def test_a_policy_without_a_mandatory_check_refuses(check: Check) -> None:
    policy = Policy("weak", frozenset(Check) - {check})
    assert codes(refused(Node().boot(), policy=policy)) == {"policy.incomplete"}


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        ({"lockdown": "[none] integrity confidentiality"}, "kernel.lockdown"),
        ({"lockdown": None}, "kernel.lockdown"),
        ({"module_sig_enforce": "N"}, "kernel.module-signatures"),
        ({"ptrace_scope": 0}, "kernel.yama"),
    ],
)
def test_the_strict_policy_wants_a_hardened_kernel(facts: dict[str, Any], code: str) -> None:
    node = Node().boot()
    node.top["kernel"].update(facts)
    judge(node)
    assert codes(refused(node, policy=unlabelled_strict())) == {code}


def test_the_strict_policy_misses_documentation() -> None:
    node = Node().boot()
    del node.files["/usr/share/doc/tools.txt"]
    assert codes(refused(node, policy=unlabelled_strict())) == {"file.missing"}


def test_a_filter_of_a_socket_is_no_program_of_the_kernel() -> None:
    node = Node().boot()
    node.top["kernel"]["bpf_programs"].append([9, 1, "", "f7d8ec7a0f8e77ef"])
    judge(node)


def test_no_reference_for_the_kernel_refuses() -> None:
    image = replace(manifest(), kernel="same-as-controller")
    assert codes(refused(Node().boot(), image=image)) == {"kernel.no-reference"}


def test_without_a_nonce_nothing_is_fresh() -> None:
    node = Node().boot()
    node.top["nonce"] = ""
    assert codes(refused(node, bound=binding(nonce=""))) == {"evidence.nonce"}


def test_a_policy_bounds_what_may_be_skipped() -> None:
    """Even if the caller itself asked to leave it out."""
    node = Node().boot()
    node.top["skip"] = ["/usr"]
    found = refused(node, bound=binding(skip=("/usr",)))
    assert codes(found) == {"evidence.skip"}


def test_an_injected_file_goes_before_the_manifest() -> None:
    """The image's own machine-id is not the one that this node was given."""
    given = InjectedFile("f", 0o444, 0, 0, 2, sha256("another"))
    bound = binding(injected={**INJECTED, "/etc/machine-id": given})
    assert codes(refused(Node().boot(), bound=bound)) == {"file.digest"}


def test_a_label_is_compared_where_the_manifest_has_labels() -> None:
    label = {"security.selinux": "aa00"}
    node = Node().boot()
    for row in node.files.values():
        row[7] = {**(row[7] or {}), **label}
    judge(node)
    image = replace(manifest(), labels=tuple((path, "aa00") for path in node.files))
    judge(node, image=image)
    node.files["/usr/bin/bash"][7] = {"security.selinux": "bb00"}
    assert codes(refused(node, image=image)) == {"file.label"}


def test_an_owner_that_no_account_has_is_refused() -> None:
    image = replace(manifest(), accounts=type(manifest().accounts)())
    assert codes(refused(Node().boot(), image=image)) == {"file.account"}


def test_reasons_are_bounded_and_counted() -> None:
    node = Node().boot()
    for number in range(2500):
        node.add_file(f"/opt/evil{number}", EVIL)
    refusal = refused(node)
    assert len(refusal.reasons) == 1000
    assert refusal.verdict.reason_count == 2500
    assert "1500 more reasons" in refusal.verdict.to_text()
