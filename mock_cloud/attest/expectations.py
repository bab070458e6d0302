# SPDX-License-Identifier: GPL-2.0-or-later
"""Small statements of what a node may have besides files: mounts, programs, sockets.

An image manifest carries them signed; a provider adds what it made itself (its `Binding`).
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from enum import Enum
from typing import Final

from mock_cloud.attest.files import is_normal
from mock_cloud.wire.layout import WORKSPACE


@dataclass(frozen=True, slots=True)
class MountRule:
    """A mount that may be there: where, of which file system types, with which options.

    `required` options must be among the mount's own or its file system's. A mount of
    another directory than its file system's root (a bind) passes only if `may_bind`.
    """

    point: str
    types: tuple[str, ...]
    required: tuple[str, ...] = ()
    may_bind: bool = False

    def __post_init__(self) -> None:
        if not is_normal(self.point) or not self.types:
            raise ValueError(f"a mount rule wants a point and types: {self.point[:200]!a}")


DISK_TYPES: Final = ("ext4", "xfs", "btrfs")


def default_mounts() -> tuple[MountRule, ...]:
    """Kernel file systems and a local disk, as any Linux node has them."""
    kernel = {
        "/proc": ("proc",),
        "/sys": ("sysfs",),
        "/sys/fs/cgroup": ("cgroup2", "tmpfs"),
        "/sys/fs/bpf": ("bpf",),
        "/sys/fs/pstore": ("pstore",),
        "/sys/fs/selinux": ("selinuxfs",),
        "/sys/firmware/efi/efivars": ("efivarfs",),
        "/sys/kernel/config": ("configfs",),
        "/sys/kernel/debug": ("debugfs",),
        "/sys/kernel/security": ("securityfs",),
        "/sys/kernel/tracing": ("tracefs",),
        "/dev": ("devtmpfs", "tmpfs"),
        "/dev/hugepages": ("hugetlbfs",),
        "/dev/mqueue": ("mqueue",),
        "/dev/pts": ("devpts",),
        "/dev/shm": ("tmpfs",),  # noqa: S108 (a name, not a file of ours)
        "/proc/sys/fs/binfmt_misc": ("autofs", "binfmt_misc"),
        "/run": ("tmpfs",),
        "/tmp": ("tmpfs",),  # noqa: S108
    }
    disk = [MountRule(point, DISK_TYPES) for point in ("/boot", "/boot/efi")]
    return (
        MountRule("/", (*DISK_TYPES, "overlay"), may_bind=True),
        *disk,
        *(MountRule(point, types) for point, types in kernel.items()),
    )


class Invocation(Enum):
    """How a program of a `ProgramRule` may have been started."""

    EXACT = "exact"
    """With exactly these arguments."""
    ANY = "any"
    """With any: for daemons that read no code from their command line."""
    SSHD = "sshd"
    """As OpenSSH's server, listening or serving a login: see `sshd_titles`."""


# Programs that run what they are told: a verified shell with another's script is no proof.
_INTERPRETERS: Final = (
    "ash", "awk", "bash", "busybox", "csh", "dash", "env", "expect", "find", "gawk", "gdb",
    "guile", "ksh", "ld", "lua", "mawk", "node", "perl", "php", "pypy", "python", "rpm", "ruby",
    "sed", "sh", "socat", "ssh", "systemd-run", "tclsh", "tcsh", "vim", "xargs", "zsh",
)  # fmt: skip


TOOLKIT_PROGRAM: Final = f"{WORKSPACE}/toolkit/ld.so"
"""In a rule: the loader of whatever toolkit was pushed, running one of our own roles."""


def is_interpreter(exe: str) -> bool:
    """Whether this program, by its name, runs what it is told."""
    name = posixpath.basename(exe).rstrip("0123456789.").removeprefix("ld-linux")
    return name in _INTERPRETERS


@dataclass(frozen=True, slots=True)
class ProgramRule:
    """A program that may run: its executable, and how it may have been started.

    `may_generate_code` lets it have executable anonymous memory (a just-in-time compiler);
    `own_namespaces` lets it live in other namespaces than init (a sandboxed service).
    """

    exe: str
    invocation: Invocation
    argv: tuple[str, ...] = ()
    may_generate_code: bool = False
    own_namespaces: bool = False

    def __post_init__(self) -> None:
        if not is_normal(self.exe):
            raise ValueError(f"a program rule wants an absolute path: {self.exe[:200]!a}")
        if self.invocation is Invocation.ANY and is_interpreter(self.exe):
            raise ValueError(f"{self.exe} runs what it is told: name its exact arguments")
        if bool(self.argv) != (self.invocation is Invocation.EXACT):
            raise ValueError(f"{self.exe}: arguments go with an exact invocation only")


@dataclass(frozen=True, slots=True)
class SocketRule:
    """A socket that may listen: protocol as evidence names it, port (0: any), who holds it."""

    protocol: str
    port: int
    exe: str
