# SPDX-License-Identifier: GPL-2.0-or-later
"""A node that is as it should be, for tests to spoil one thing of.

The packages are real (see data/make_headers.py); files, processes and the kernel's state are
laid out as the agent would report them.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from mock_cloud.attest.accounts import Accounts
from mock_cloud.attest.check_files import InjectedFile
from mock_cloud.attest.evidence import parse_evidence
from mock_cloud.attest.image_manifest import BakeChoices, make_manifest
from mock_cloud.attest.kernel import parse_kernel
from mock_cloud.attest.knowngood import read_packages
from mock_cloud.attest.manifest import ImageManifest
from mock_cloud.attest.packages import HeaderCache, Package, verify_package
from mock_cloud.attest.policy import Policy, standard, strict
from mock_cloud.attest.verdict import Verdict
from mock_cloud.attest.verify import Binding, verify
from mock_cloud.model import HostKey, SshdReload, Toolkit, ToolkitFile, TrustedNode
from mock_cloud.signed.keys import PackageKeys
from tests.records import packed

DATA = Path(__file__).parent / "data"
ACCOUNTS = Accounts(users=(("root", 0), ("sshd", 74)), groups=(("root", 0), ("mail", 8)))
HOST_KEY = HostKey("ssh-ed25519", b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + bytes(range(32)))
NONCE = "5f" * 32
SKIP = ("/var/lib/mock-cloud/layers", "/var/lib/mock")
LAYER = "/var/lib/mock-cloud/layers/" + "ab" * 32 + "/root"
TREE_DIGEST = "cd" * 32
INIT_PID, SESSION_PID, AGENT_PID = 1, 20, 30
RELOADED = 4000
"""When sshd read its configuration anew, in clock ticks since boot."""

Json = dict[str, Any]


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def blob(name: str) -> bytes:
    return (DATA / f"{name}.hdr").read_bytes()


@cache
def keys() -> PackageKeys:
    return PackageKeys.parse([(DATA / "distribution.asc").read_bytes()])


@cache
def packages() -> tuple[Package, ...]:
    return tuple(verify_package(blob(name), keys()) for name in ("base", "tools"))


def toolkit() -> Toolkit:
    names = ("ld.so", "lib/libc.so.6", "bin/python3", "agent/main.py")
    files = {name: ToolkitFile(0o755, len(name), sha256(name)) for name in names}
    return Toolkit("ee" * 32, Path("toolkit.tar.gz"), "x86_64", "3.11.2", files)


NFS = "/sbin/nfs_cache_getent"
KERNEL: Json = {
    "cmdline": "root=/dev/vda1 ro",
    "tainted": 0,
    "core_pattern": "core",
    "modprobe": "/sbin/modprobe",
    "poweroff_cmd": "/sbin/poweroff",
    "uevent_helper": "",
    "kexec_loaded": 0,
    "livepatches": [],
    "lockdown": "none [integrity] confidentiality",
    "ptrace_scope": 1,
    "binfmt": [],
    "bpf_programs": [[3, "cgroup_device", "sd_devices", "1f2e3d"]],
    "kprobes": [],
    "modules": ["overlay", "virtio_net"],
    "modules_sysfs": ["kernel", "overlay", "virtio_net"],
    "module_sig_enforce": "Y",
}
# As Linux 6.1 has them on a machine: all but mnt and net are part of the ABI.
NAMESPACES = {
    "cgroup": 4026531835,
    "ipc": 4026531839,
    "mnt": 4026531840,
    "net": 4026531992,
    "pid": 4026531836,
    "time": 4026531834,
    "user": 4026531837,
    "uts": 4026531838,
}
INJECTED = {
    "/etc/hostname": InjectedFile("f", 0o644, 0, 0, 5, sha256("node\n")),
    "/etc/ssh/ssh_host_ed25519_key": InjectedFile("f", 0o600, 0, 0, 6, sha256("hostkey")),
    "/root/.ssh/authorized_keys": InjectedFile("f", 0o600, 0, 0, 4, sha256("keys")),
    "/dev/null": InjectedFile("c", 0o666, 0, 0, 0, "1:3"),
    "/run": InjectedFile("d", 0o755, 0, 0, 0, None),
}
# What the image has besides its packages: pinned by the manifest.
UNOWNED: dict[str, tuple[str, int, str | None]] = {
    "/dev": ("d", 0o755, None),
    "/etc/ld.so.cache": ("f", 0o644, "cache"),
    "/etc/machine-id": ("f", 0o444, "machine-id"),
    "/etc/passwd": ("f", 0o644, "passwd"),
    "/etc/shadow": ("f", 0o000, "shadow"),
    "/etc/pam.d": ("d", 0o755, None),
    "/etc/pam.d/sshd": ("f", 0o644, "pam"),
    "/etc/ssh": ("d", 0o755, None),
    "/etc/ssh/sshd_config": ("f", 0o600, "sshd_config"),
    "/etc/alternatives": ("d", 0o755, None),
    "/etc/alternatives/editor": ("l", 0o777, "/usr/bin/vi"),
    "/root": ("d", 0o700, None),
    "/root/.ssh": ("d", 0o700, None),
    "/var/lib/mock": ("d", 0o755, None),
    "/var/lib/rpm": ("d", 0o755, None),
    "/var/lib/rpm/rpmdb.sqlite": ("f", 0o644, "rpmdb"),
    "/var/log": ("d", 0o755, None),
}


def unowned_row(path: str) -> list[Any]:
    kind, mode, value = UNOWNED[path]
    is_file = kind == "f"
    text = sha256(str(value)) if is_file else value
    return [path, kind, mode, 0, 0, len(str(value)) if is_file else 0, text, None]


class Node:
    """Evidence of a good node as JSON, to be changed in place. `files` are rows by path."""

    def __init__(self) -> None:
        signed = read_packages(packages(), ACCOUNTS)
        rows = [[*fact[:7], dict(fact.xattrs) or None] for fact in signed.files.values()]
        rows += [unowned_row(path) for path in UNOWNED]
        self.files: dict[str, list[Any]] = {row[0]: row for row in rows}
        self.blobs: dict[str, bytes] = {}
        self.top: Json = {
            "schema": "mock-cloud/evidence/4",
            "nonce": NONCE,
            "uname": ["Linux", "node", "6.1.0", "#1", "x86_64"],
            "skip": [],
            "unreadable": [],
            "trees": {},
            "mounts": [],
            "namespaces": {"init": {}, "self": {}},
            "processes": [],
            "self": 99,
            "hidden_pids": [],
            "kernel": None,
            "helpers": None,
            "sockets": [],
            "connections": [],
            "rpmdb": [["/var/lib/rpm", "sqlite", None]],
            "headers": [],
            "texts": [],
        }
        for name in ("base", "tools"):
            self.add_header(blob(name))

    def boot(self) -> Node:
        """What running adds: injected files, the toolkit, processes, mounts, a kernel."""
        root = toolkit().node_dir
        for path, file in INJECTED.items():
            row = [path, file.type, file.mode, file.uid, file.gid, file.size_bytes, file.value]
            self.files[path] = [*row, None]
        for name, tool in toolkit().files.items():
            self.add_file(f"{root}/{name}", tool.sha256, mode=tool.mode, size=tool.size_bytes)
        above = ("", "/toolkit", f"/toolkit/{'ee' * 32}", "/layers", "/jobs")
        for path in above:
            self.add_directory(f"/var/lib/mock-cloud{path}", mode=0o700)
        for name in ("lib", "bin", "agent"):
            self.add_directory(f"{root}/{name}")
        self.add_directory("/run/sshd")
        self.add_file("/var/log/wtmp", sha256("wtmp"), size=384)
        spaces = dict(NAMESPACES)
        self.top |= {
            "skip": list(SKIP),
            "trees": {LAYER: {"sha256": TREE_DIGEST, "files": 3, "bytes": 9}},
            "mounts": [mount("/", "ext4", 1), mount("/proc", "proc", 2), mount("/dev", "tmpfs", 3)],
            "namespaces": {"init": dict(spaces), "self": dict(spaces)},
            "kernel": copy.deepcopy(KERNEL),
            "helpers": {
                "release_agents": [["memory", ""], ["name=systemd", ""]],
                "programs": [["firmware_class.path", ""], ["nfs.cache_getent", NFS]],
            },
            "self": AGENT_PID,
            "sockets": [["tcp", "192.0.2.1", 22, INIT_PID], ["tcp6", "::", 22, INIT_PID]],
            "connections": [["tcp", "192.0.2.1", 22, "198.51.100.7", 40000, SESSION_PID]],
        }
        self.top["processes"] = [
            self.process(INIT_PID, 0, "/usr/sbin/sshd", [LISTENING]),
            self.process(SESSION_PID, INIT_PID, "/usr/sbin/sshd", ["sshd: root@notty"]),
            self.process(AGENT_PID, SESSION_PID, f"{root}/ld.so", toolkit().argv("serve")),
            self.kernel_thread(2, 0),
            self.kernel_thread(5, 2),
        ]
        return self

    def process(self, pid: int, ppid: int, exe: str, cmdline: list[str]) -> Json:
        libc = (
            f"{toolkit().node_dir}/lib/libc.so.6" if "mock-cloud" in exe else "/usr/lib64/libc.so.6"
        )
        return {
            "pid": pid,
            "ppid": ppid,
            "uid": 0,
            "gid": 0,
            "kernel": False,
            "exe": exe,
            "deleted": False,
            "sha256": self.files[exe][6],
            "cmdline": cmdline,
            "environ": {},
            "tracer": 0,
            "maps": [[path, False, self.files[path][6]] for path in (exe, libc)],
            "anonymous_exec": 0,
            "patched": [],
            "namespaces": dict(NAMESPACES),
            "root": "/",
            "started": RELOADED if pid in (SESSION_PID, AGENT_PID) else 20,
        }

    def kernel_thread(self, pid: int, ppid: int) -> Json:
        thread = self.process(pid, ppid, "/usr/sbin/sshd", [])
        return thread | {"kernel": True, "exe": None, "sha256": None, "maps": []}

    def add_header(self, data: bytes) -> None:
        digest = hashlib.sha256(data).hexdigest()
        self.blobs[digest] = data
        self.top["headers"].append([digest, len(data)])

    def remove_header(self, data: bytes) -> None:
        digest = hashlib.sha256(data).hexdigest()
        self.top["headers"].remove([digest, len(data)])

    def replace_header(self, old: str, new: str) -> None:
        self.remove_header(blob(old))
        self.add_header(blob(new))

    def add_file(self, path: str, digest: str, *, mode: int = 0o644, size: int = 1) -> None:
        self.files[path] = [path, "f", mode, 0, 0, size, digest, None]

    def add_directory(self, path: str, *, mode: int = 0o755) -> None:
        self.files[path] = [path, "d", mode, 0, 0, 0, None, None]

    def add_link(self, path: str, target: str) -> None:
        self.files[path] = [path, "l", 0o777, 0, 0, 0, target, None]

    @property
    def sshd(self) -> Json:
        found: Json = self.top["processes"][0]
        return found

    @property
    def agent(self) -> Json:
        found: Json = self.top["processes"][2]
        return found

    def to_bytes(self) -> bytes:
        return packed(self.sections)

    @property
    def sections(self) -> Json:
        """All of the evidence by section."""
        return self.top | {"files": list(self.files.values())}


def mount(point: str, kind: str, number: int) -> Json:
    return {
        "point": point,
        "root": "/",
        "type": kind,
        "source": kind,
        "options": "rw,relatime",
        "super": "rw",
        "id": number,
        "parent": 0,
    }


@cache
def manifest() -> ImageManifest:
    """Made from an unbooted image, as a baker would."""
    image = Node()
    choices = BakeChoices(
        name="test",
        created="2026-01-01",
        accounts=ACCOUNTS,
        kernel=parse_kernel(copy.deepcopy(KERNEL)),
    )
    return make_manifest(parse_evidence(image.to_bytes()), image.blobs, keys(), choices)


LISTENING = "sshd: /usr/sbin/sshd -D -e [listener] 0 of 10-100 startups"
RELOAD = SshdReload(INIT_PID, RELOADED, (("/usr/sbin/sshd", (LISTENING,)),))


def binding(**changes: Any) -> Binding:
    given: dict[str, Any] = {
        "host_key": HOST_KEY,
        "nonce": NONCE,
        "toolkit": toolkit(),
        "injected": INJECTED,
        "layers": {LAYER: TREE_DIGEST},
        "skip": SKIP,
        "reload": RELOAD,
    }
    return Binding(**(given | changes))


_CACHE: HeaderCache = {}


def judge(
    node: Node,
    *,
    image: ImageManifest | None = None,
    policy: Policy | None = None,
    bound: Binding | None = None,
) -> tuple[TrustedNode, Verdict]:
    return verify(
        node.to_bytes(),
        node.blobs,
        image or manifest(),
        keys(),
        policy or standard(),
        bound or binding(),
        cache=_CACHE,
    )


def unlabelled_strict() -> Policy:
    """The strict policy, but for SELinux labels: the test's image has none."""
    return replace(strict(), rules=replace(strict().rules, labels=False))


Spoil = Callable[[Node], None]
