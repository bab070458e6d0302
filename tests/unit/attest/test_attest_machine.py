# SPDX-License-Identifier: GPL-2.0-or-later
"""Manifests of machines that run systemd and daemons: what nobody may vouch for, and what holds.

The machine is laid out as systemd 252 on a Fedora or Debian host has it, by hand: no systemd runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mock_cloud.attest.evidence import parse_evidence
from mock_cloud.attest.manifest import ImageManifest
from mock_cloud.attest.rules.machine import chosen_rule, machine_rules
from mock_cloud.attest.rules.volatile import VolatileKind, VolatileRule
from mock_cloud.attest.running_manifest import LiveNode, make_live_manifest
from mock_cloud.attest.signer_report import SignerReport
from mock_cloud.attest.verdict import NodeRefused
from mock_cloud.errors import AttestationRefused
from tests.unit.attest.attest_builder import (
    ACCOUNTS,
    RELOAD,
    Node,
    binding,
    judge,
    keys,
    mount,
    sha256,
    toolkit,
)

SYSTEMD = "/usr/lib/systemd/systemd"
SSHD_PID = 70
DAEMONS: tuple[tuple[int, str, tuple[str, ...]], ...] = (
    (1, SYSTEMD, (SYSTEMD, "--switched-root", "--system", "--deserialize=31")),
    (41, "/usr/lib/systemd/systemd-journald", ("/usr/lib/systemd/systemd-journald",)),
    (42, "/usr/bin/udevadm", ("/usr/lib/systemd/systemd-udevd",)),
    (43, "/usr/bin/dbus-broker", ("dbus-broker", "--log", "4", "--controller", "9")),
    (44, "/usr/lib/systemd/systemd-logind", ("/usr/lib/systemd/systemd-logind",)),
    (45, "/usr/sbin/crond", ("/usr/sbin/crond", "-n")),
    (46, "/usr/bin/python3.12", ("/usr/bin/python3", "-sP", "/usr/sbin/firewalld", "--nofork")),
    (47, "/usr/sbin/agetty", ("/sbin/agetty", "-o", "-p -- \\u", "--noclear", "-", "linux")),
    (48, "/usr/sbin/chronyd", ("/usr/sbin/chronyd", "-F", "2")),
    (50, SYSTEMD, (f"{SYSTEMD}", "--user")),
    (51, SYSTEMD, ("(sd-pam)",)),
)
SANDBOXED = (42, 44, 48)


def machine() -> Node:
    """A good node, with sshd as one of systemd's services, and root's login of number 5."""
    node = Node().boot()
    for exe in {exe for _, exe, _ in DAEMONS}:
        node.add_file(exe, sha256(exe), mode=0o755)
    node.sshd.update(pid=SSHD_PID, ppid=1)
    for pid, exe, words in DAEMONS:
        daemon = node.process(pid, min(pid - 1, 1), exe, list(words))
        if pid in SANDBOXED:
            daemon["namespaces"] = {**daemon["namespaces"], "mnt": 4026532200 + pid}
        node.top["processes"].append(daemon)
    for row in node.top["sockets"]:
        row[3] = SSHD_PID
    node.top["sockets"] += [["udp", "127.0.0.1", 323, 48], ["udp", "192.0.2.1", 41021, 48]]
    node.top["mounts"] += [mount("/run", "tmpfs", 4), mount("/run/user/0", "tmpfs", 5)]
    node.top["mounts"] += [mount("/boot/efi", "vfat", 6)]
    for path in (
        "/boot/efi", "/run", "/run/dbus", "/run/log", "/run/systemd", "/run/systemd/generator",
        "/run/systemd/netif", "/run/systemd/sessions", "/run/systemd/system", "/run/user",
        "/run/systemd/transient", "/run/systemd/units", "/run/udev", "/run/udev/data",
        "/run/user/0", "/run/user/0/systemd", "/run/user/0/systemd/units", "/var/lib/systemd",
        "/var/log/journal",
    ):  # fmt: skip
        node.add_directory(path)
    node.add_file("/boot/efi/shim.efi", sha256("shim"), mode=0o755)
    node.add_file("/run/systemd/generator/boot.mount", sha256("a unit"))
    node.add_file("/run/chrony.pid", sha256("48"), size=3)
    node.add_file("/run/crond.pid", sha256("45"), size=3)
    node.add_file("/run/udev/data/b252:0", sha256("udev"))
    node.add_file("/var/lib/systemd/random-seed", sha256("seed"), mode=0o600, size=512)
    journal = "/var/log/journal/system.journal"
    node.files[journal] = [journal, "f", 0o640, 0, 190, 8 << 20, sha256("journal"), None]
    node.files[journal][7] = {"system.posix_acl_access": "02"}
    lease = "/run/systemd/netif/leases"
    node.files[lease] = [lease, "f", 0o644, 192, 192, 99, sha256("lease"), None]
    log_in(node, 5)
    return node


def log_in(node: Node, number: int) -> None:
    """What systemd-logind writes down of a login."""
    node.add_file(f"/run/systemd/sessions/{number}", sha256(f"session {number}"))
    pipe = f"/run/systemd/sessions/{number}.ref"
    node.files[pipe] = [pipe, "p", 0o600, 0, 0, 0, None, None]
    node.add_file(f"/run/systemd/transient/session-{number}.scope", sha256(f"scope {number}"))
    identity = f"{number:032x}"
    node.add_link(f"/run/systemd/units/invocation:session-{number}.scope", identity)
    node.add_link("/run/user/0/systemd/units/invocation:init.scope", identity)


RELOADED = replace(RELOAD, listener=SSHD_PID)


def describe(node: Node, *more: VolatileRule) -> tuple[ImageManifest, SignerReport]:
    evidence = parse_evidence(node.to_bytes())
    live = LiveNode(ACCOUNTS, toolkit(), is_machine=True)
    rules = (*machine_rules(evidence), *more)
    made = make_live_manifest(
        evidence, node.blobs, keys(), live, None, name="lent", created="now", volatile=rules
    )
    judge(node, image=made[0], bound=binding(injected={}, reload=RELOADED))
    return made


def codes(node: Node, image: ImageManifest) -> set[str]:
    with pytest.raises(NodeRefused) as caught:
        judge(node, image=image, bound=binding(injected={}, reload=RELOADED))
    return {reason.code for reason in caught.value.reasons}


def daemon(node: Node, pid: int) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in node.top["processes"] if one["pid"] == pid)
    return found


def start(node: Node, exe: str, *words: str) -> None:
    node.add_file(exe, sha256(exe), mode=0o755)
    node.top["processes"].append(node.process(90, SSHD_PID, exe, list(words)))


def unsign(node: Node) -> None:
    node.replace_header("tools", "tools-stranger")


def swap(node: Node) -> None:
    node.files["/usr/sbin/sshd"][6] = sha256("patched")


def give_setuid(node: Node) -> None:
    node.files["/usr/sbin/sshd"][2] |= 0o4000


def hide_module(node: Node) -> None:
    node.top["kernel"]["modules"].append("rootkit")


NEVER: dict[str, tuple[str, Callable[[Node], object]]] = {
    "package of a stranger": ("package.unsigned", unsign),
    "changed program": ("file.digest", swap),
    "setuid on a packaged program": ("file.mode", give_setuid),
    "unreadable": (
        "file.unreadable", lambda node: node.top.update(unreadable=[["/usr/lib/x", "EIO"]]),
    ),
    "hidden process": ("process.hidden", lambda node: node.top.update(hidden_pids=[4242])),
    "deleted executable": ("process.deleted", lambda node: daemon(node, 45).update(deleted=True)),
    "preloaded": (
        "process.environment",
        lambda node: daemon(node, 45).update(environ={"LD_PRELOAD": "/tmp/x.so"}),
    ),
    "traced": ("process.traced", lambda node: daemon(node, 45).update(tracer=66)),
    "patched": ("process.patched", lambda node: daemon(node, 45).update(patched=["/usr/sbin/x"])),
    "memfd": ("process.memfd", lambda node: daemon(node, 45).update(exe="/memfd:x")),
    "another file than on disk": (
        "process.digest", lambda node: daemon(node, 45).update(sha256=sha256("other")),
    ),
    "root of its own": ("process.root", lambda node: daemon(node, 45).update(root="/srv")),
    "socket that nobody holds": (
        "socket.unowned", lambda node: node.top["sockets"].append(["tcp", "::", 4444, None]),
    ),
    "hidden module": ("kernel.module-hidden", hide_module),
    "live patch": (
        "kernel.livepatch", lambda node: node.top["kernel"].update(livepatches=["kpatch"]),
    ),
    "somebody's login": (
        "process.unknown", lambda node: start(node, "/usr/sbin/sshd-session", "sshd: eve@pts/0"),
    ),
    "login shell": ("process.unknown", lambda node: start(node, "/usr/bin/bash", "-bash")),
    "script from stdin": (
        "process.unknown", lambda node: start(node, "/usr/bin/python3.12", "python3", "-"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", NEVER)
def test_nobody_can_vouch_for(what: str) -> None:
    code, spoil = NEVER[what]
    node = machine()
    spoil(node)
    with pytest.raises(AttestationRefused) as caught:
        describe(node)
    assert code in {reason.code for reason in caught.value.reasons}


def test_a_machine_holds_at_the_next_login_and_after_restarts() -> None:
    node = machine()
    made, _ = describe(node)
    for name in list(node.files):
        if "session-5" in name or name.startswith("/run/systemd/sessions/"):
            del node.files[name]
    log_in(node, 6)
    node.files["/run/crond.pid"][6] = sha256("another")
    node.files["/var/lib/systemd/random-seed"][6] = sha256("another")
    node.files["/var/log/journal/system@0.journal"] = [
        "/var/log/journal/system@0.journal", *node.files["/var/log/journal/system.journal"][1:]
    ]  # fmt: skip
    node.top["sockets"][-1] = ["udp", "192.0.2.1", 50505, 48]
    judge(node, image=made, bound=binding(injected={}, reload=RELOADED))


def run_unit(node: Node) -> None:
    node.add_file("/run/systemd/system/evil.service", sha256("unit"))


def run_transient(node: Node) -> None:
    node.add_file("/run/systemd/transient/run-r1.service", sha256("unit"))


LATER: dict[str, tuple[str, Callable[[Node], object]]] = {
    "unit": ("file.unknown", run_unit),
    "transient service": ("file.volatile", run_transient),
    "changed generated unit": (
        "file.digest",
        lambda node: node.add_file("/run/systemd/generator/boot.mount", sha256("other")),
    ),
    "another boot loader": (
        "file.digest", lambda node: node.add_file("/boot/efi/shim.efi", sha256("x"), mode=0o755),
    ),
    "program among sessions": (
        "file.volatile",
        lambda node: node.add_file("/run/systemd/sessions/7", sha256("x"), mode=0o755),
    ),
    "setuid among logs": (
        "file.volatile", lambda node: node.add_file("/var/log/x", sha256("x"), mode=0o4644),
    ),
    "link out of the state": (
        "file.volatile",
        lambda node: node.add_link("/run/systemd/units/invocation:x", "../../../etc/shadow"),
    ),
    "host key": (
        "file.digest",
        lambda node: node.add_file(
            "/etc/ssh/ssh_host_ed25519_key", sha256("other"), mode=0o600, size=6
        ),
    ),
    "other arguments": (
        "process.unknown",
        lambda node: daemon(node, 45).update(cmdline=["/usr/sbin/crond", "-n", "-x", "sch"]),
    ),
    "sandbox of one that had none": (
        "process.namespace",
        lambda node: daemon(node, 45)["namespaces"].update(mnt=4026539999),
    ),
    "listener": (
        "socket.unknown", lambda node: node.top["sockets"].append(["tcp", "::", 4444, 45]),
    ),
    "another daemon's port": (
        "socket.unknown", lambda node: node.top["sockets"].append(["udp", "::", 40000, 45]),
    ),
    "module": (
        "kernel.module", lambda node: node.top["kernel"]["modules_sysfs"].append("rootkit"),
    ),
    "mount": ("mount.unknown", lambda node: node.top["mounts"].append(mount("/mnt", "ext4", 8))),
}  # fmt: skip


@pytest.mark.parametrize("what", LATER)
def test_what_came_later_is_refused(what: str) -> None:
    code, spoil = LATER[what]
    node = machine()
    made, _ = describe(node)
    spoil(node)
    assert code in codes(node, made)


def test_what_its_signer_vouches_for_is_told_the_worst_first() -> None:
    node = machine()
    node.add_file("/opt/setuid", sha256("x"), mode=0o4755)
    node.files["/etc/ssh/sshd_config"][6] = sha256("other")
    daemon(node, 46)["anonymous_exec"] = 2
    _, vouched = describe(node)
    lines = list(vouched.unverified_lines())
    for line in (
        "kernel: tainted: 0",
        "kernel: modules: virtio_net",
        f"program: {SYSTEMD} as (sd-pam)",
        "program: /usr/sbin/crond -n",
        "program: /usr/bin/python3.12 as /usr/bin/python3 -sP /usr/sbin/firewalld --nofork"
        " (makes code while it runs)",
        "program: /usr/sbin/chronyd -F 2 (in namespaces of its own)",
        "socket: udp 323: /usr/sbin/chronyd",
        "socket: udp any port: /usr/sbin/chronyd",
        "mount: /run/user/0: tmpfs",
        "may vary: /run/crond.pid (pidfile)",
    ):
        assert line in lines
    files = [line for line in lines if line.startswith("file: ")]
    assert files[0].startswith("file: /opt/setuid: f 4755 0:0 ")
    assert not any(line.startswith("package: ") for line in lines)


def test_only_data_may_be_chosen_to_vary() -> None:
    node = machine()
    node.add_directory("/var/cache/dnf")
    node.add_file("/var/lib/made", sha256("x"), mode=0o755)
    evidence = parse_evidence(node.to_bytes())
    assert chosen_rule(evidence, "/var/cache/dnf").kind is VolatileKind.STATE
    for path in ("/etc/passwd", "/var/lib/made", "/var/lib/none", "/run/systemd/system", "/"):
        with pytest.raises(ValueError, match=path):
            chosen_rule(evidence, path)
    made, _ = describe(node, VolatileRule("/var/cache/dnf", VolatileKind.STATE))
    node.add_file("/var/cache/dnf/repomd.xml", sha256("x"))
    judge(node, image=made, bound=binding(injected={}, reload=RELOADED))


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/run/systemd/system", VolatileKind.SCOPES),
        ("/run/systemd/system", VolatileKind.STATE),
        ("/run/systemd", VolatileKind.STATE),
        ("/run/user/0/systemd", VolatileKind.STATE),
        ("/var/lib/systemd", VolatileKind.STATE),
        ("/var/lib/systemd/random-seed", VolatileKind.STATE),
        ("/var", VolatileKind.STATE),
    ],
)
def test_no_rule_reaches_what_is_read_as_code(path: str, kind: VolatileKind) -> None:
    with pytest.raises(ValueError, match=path):
        VolatileRule(path, kind)


def test_a_lent_machine_with_cloud_init_is_trusted_after_its_next_boot() -> None:
    """Whoever lends an instance of a cloud: each boot writes cloud-init's state anew."""
    node = machine()
    data, script = "/var/lib/cloud/data/status.json", "/var/lib/cloud/scripts/per-boot/more"
    for path in ("/run/cloud-init", "/var/lib/cloud", "/var/lib/cloud/data"):
        node.add_directory(path)
    node.add_file(data, sha256("first boot"))
    made, _ = describe(node)
    node.add_file(data, sha256("second boot"))
    judge(node, image=made, bound=binding(injected={}, reload=RELOADED))
    node.add_file(script, sha256("more"), mode=0o755)
    assert codes(node, made) == {"file.volatile"}


def test_the_module_that_our_own_layers_have_the_kernel_load_is_expected() -> None:
    """The second build on a machine was refused, where overlayfs is a module."""
    node = machine()
    made, _ = describe(node)
    for name in ("modules", "modules_sysfs"):
        node.top["kernel"][name].append("overlay")
    judge(node, image=made, bound=binding(injected={}, reload=RELOADED))
    node.top["kernel"]["modules"].append("overlay2")
    node.top["kernel"]["modules_sysfs"].append("overlay2")
    assert codes(node, made) == {"kernel.module"}
