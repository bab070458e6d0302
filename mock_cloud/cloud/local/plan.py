# SPDX-License-Identifier: GPL-2.0-or-later
"""What a local node will be, decided before it is made: image, files, mounts, command line.

All of it is pure but for looking at the image and at the host's mounts.
"""
# ruff: noqa: S108 (/tmp and /dev/shm are the node's, empty and its own)

from __future__ import annotations

import os
import re
import stat
from dataclasses import field
from pathlib import Path
from typing import Final

from mock_cloud.cloud.provider import ExpectedMount, InjectedFile, InjectedType
from mock_cloud.errors import ConfigError
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.layout import HOST_KEY_FILE, MOCK_CACHEDIR, MOCK_LIBDIR, WORKSPACE

SSHD: Final = "/usr/sbin/sshd"
PATH: Final = "/usr/sbin:/usr/bin:/sbin:/bin"

WORK_DIRS: Final = {WORKSPACE: 0o700, MOCK_LIBDIR: 0o755, MOCK_CACHEDIR: 0o755}
"""Bound from a plain file system, since an overlay's upper can't lie on an overlay."""

_NEEDED_DIRS: Final = (
    "proc", "sys", "dev", "run", "tmp", "root", "etc/ssh", "var/lib", "var/cache"
)  # fmt: skip

_DEVICES: Final = {
    "null": "1:3", "zero": "1:5", "full": "1:7", "random": "1:8", "urandom": "1:9", "tty": "5:0"
}  # fmt: skip
_DEVICE_LINKS: Final = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
}


@dataclass(frozen=True, slots=True)
class NodePlan:
    """One local node. It travels as JSON to the supervisor's stdin, never on a command line.

    `image` and `node_dir` are absolute host paths; `host_key` is an OpenSSH private key file.
    """

    lease_id: str
    owner: str
    state_dir: str
    image: str
    hostname: str
    address: str
    port: int
    disk_mib: int
    boot_timeout_s: float
    resolv_conf: str
    client_key: str
    host_public_key: str
    host_key: str = field(repr=False)

    @property
    def node_dir(self) -> Path:
        return node_dir(Path(self.state_dir), self.lease_id)

    @property
    def argv(self) -> list[str]:
        """pid 1 of the node: the image's own sshd, which reaps what it inherits."""
        listen = f"ListenAddress={self.address}:{self.port}"
        return [SSHD, "-D", "-e", "-o", listen, "-o", "PidFile=none"]


def node_dir(state_dir: Path, lease_id: str) -> Path:
    """The host directory of a node: its lock, its console, its disk."""
    return state_dir / "nodes" / lease_id


def check_image(image: Path) -> None:
    """Whether a node can boot from this tree. ConfigError names what it lacks."""
    hint = "install openssh-server and its dependencies with dnf --installroot"
    if not image.is_absolute() or not image.is_dir():
        raise ConfigError(f"the image tree {image} is not a directory", hint=hint)
    if not (image / SSHD[1:]).is_file():
        raise ConfigError(f"the image tree {image} has no {SSHD}", hint=hint)
    for name in _NEEDED_DIRS:
        # A link could lead out of the tree as long as the host's root is ours.
        path = image / name
        if path.is_symlink() or not path.is_dir():
            raise ConfigError(f"the image tree {image} has no directory /{name}", hint=hint)


def injected_files(plan: NodePlan) -> dict[str, InjectedFile]:
    """Every file that the provider puts on the node, parents before children.

    The kernel's own file systems (/proc, /sys, /dev/pts) have more in them.
    """
    hosts = (
        "127.0.0.1 localhost localhost.localdomain\n"
        "::1 localhost localhost.localdomain\n"
        f"{plan.address} {plan.hostname}\n"
    )
    files = {path: _work_dir(plan, path, mode) for path, mode in WORK_DIRS.items()}
    files |= {
        "/etc/hostname": _file(0o644, plan.hostname + "\n"),
        "/etc/hosts": _file(0o644, hosts),
        "/etc/resolv.conf": _file(0o644, plan.resolv_conf),
        HOST_KEY_FILE: _file(0o600, plan.host_key),
        f"{HOST_KEY_FILE}.pub": _file(0o644, plan.host_public_key + "\n"),
        "/root/.ssh": _directory(0o700),
        "/root/.ssh/authorized_keys": _file(0o600, plan.client_key + "\n"),
    }
    files |= kernel_files()
    files["/run/sshd"] = _directory(0o755)
    return files


def kernel_files() -> dict[str, InjectedFile]:
    """What is below /dev and where tmpfs are mounted, before anything runs on a node."""
    files = {
        "/tmp": _directory(0o1777),
        "/run": _directory(0o755),
        "/dev": _directory(0o755),
        "/dev/pts": _directory(0o755),
        "/dev/shm": _directory(0o1777),
    }
    for name, number in _DEVICES.items():
        device = InjectedFile(InjectedType.CHARACTER, 0o666, content=number.encode())
        files[f"/dev/{name}"] = device
    for name, target in _DEVICE_LINKS.items():
        link = InjectedFile(InjectedType.LINK, 0o777, content=target.encode())
        files[f"/dev/{name}"] = link
    return files


def expected_mounts(plan: NodePlan) -> tuple[ExpectedMount, ...]:
    """The node's mounts, in mount order."""
    work_type = "ext4" if plan.disk_mib else filesystem_type(plan.node_dir)
    fixed = {
        "/": "overlay",
        "/proc": "proc",
        "/sys": "sysfs",
        "/dev": "tmpfs",
        "/dev/pts": "devpts",
        "/dev/shm": "tmpfs",
        "/run": "tmpfs",
        "/tmp": "tmpfs",
    }
    return tuple(
        ExpectedMount(point, kind)
        for point, kind in (fixed | dict.fromkeys(WORK_DIRS, work_type)).items()
    )


def filesystem_type(path: Path) -> str:
    """Type of the file system that `path` lies on or would lie on, as mountinfo names it."""
    wanted = str(path.resolve())
    best, kind = "", ""
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        # proc_pid_mountinfo(5): field 5 is the mount point, octal escapes for blanks;
        # optional fields end at " - ".
        left, _, right = line.partition(b" - ")
        raw = re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), left.split()[4])
        point = os.fsdecode(raw)
        inside = point in ("/", wanted) or wanted.startswith(point + "/")
        if inside and len(point) >= len(best):
            best, kind = point, os.fsdecode(right.split()[0])
    return kind


def _work_dir(plan: NodePlan, path: str, default_mode: int) -> InjectedFile:
    """As it is in the image (mock's package gives /var/lib/mock a group), else root's."""
    try:
        found = os.lstat(plan.image + path)
    except FileNotFoundError:
        return _directory(default_mode)
    if not stat.S_ISDIR(found.st_mode):
        raise ConfigError(f"{path} in the image tree {plan.image} is not a directory")
    mode = stat.S_IMODE(found.st_mode)
    return InjectedFile(InjectedType.DIRECTORY, mode, found.st_uid, found.st_gid)


def _directory(mode: int) -> InjectedFile:
    return InjectedFile(InjectedType.DIRECTORY, mode)


def _file(mode: int, text: str) -> InjectedFile:
    return InjectedFile(InjectedType.FILE, mode, content=text.encode())
