# SPDX-License-Identifier: GPL-2.0-or-later
"""Small statements of what a node may have besides files: mounts, programs, sockets.

An image manifest carries them signed; a provider adds what it made itself (its `Binding`).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from enum import Enum
from typing import Annotated, ClassVar, Final

from mock_cloud.attest.files import Text, is_normal
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.decode import within
from mock_cloud.wire.layout import WORKSPACE


@dataclass(frozen=True, slots=True)
class MountRule:
    """A mount that may be there: where, of which file system types, with which options.

    `required` options must be among the mount's own or its file system's. A mount of
    another directory than its file system's root (a bind) passes only if `may_bind`.
    """

    is_row: ClassVar[bool] = True
    point: Text
    types: tuple[Text, ...]
    required: tuple[Text, ...] = ()
    may_bind: bool = False

    def __post_init__(self) -> None:
        if not is_normal(self.point) or not self.types:
            raise ValueError(f"a mount rule wants a point and types: {self.point[:200]!a}")


DISK_TYPES: Final = ("ext4", "xfs", "btrfs")
_BOOT_POINTS: Final = ("/boot", "/boot/efi", "/efi")


def is_on_disk(point: str, types: Iterable[str]) -> bool:
    """Whether what is mounted there belongs to an image: a disk's file system, or an ESP's."""
    return bool({*DISK_TYPES, *(("vfat",) if point in _BOOT_POINTS else ())} & set(types))


def default_mounts() -> tuple[MountRule, ...]:
    """Kernel file systems and a local disk, as any Linux node has them."""
    kernel = {
        "/proc": ("proc",),
        "/sys": ("sysfs",),
        "/sys/fs/cgroup": ("cgroup2", "tmpfs"),
        "/sys/fs/bpf": ("bpf",),
        "/sys/fs/fuse/connections": ("fusectl",),
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
    disk = [MountRule(point, (*DISK_TYPES, "vfat")) for point in _BOOT_POINTS]
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


# Programs that run what they are told: a verified one with another's script is no proof.
_INTERPRETERS: Final = (
    "ash", "awk", "bash", "busybox", "bwrap", "capsh", "chroot", "csh", "dash", "env", "expect",
    "find", "flock", "gawk", "gdb", "guile", "ionice", "ksh", "ld", "lua", "make", "mawk", "nice",
    "node", "nohup", "nsenter", "parallel", "perl", "php", "platform-python", "pypy", "python",
    "rpm", "ruby", "runuser", "sed", "setarch", "setpriv", "setsid", "sh", "socat", "ssh", "stdbuf",
    "strace", "su", "sudo", "systemd-run", "taskset", "tclsh", "tcsh", "timeout", "toybox",
    "unshare", "vim", "watch", "xargs", "zsh",
)  # fmt: skip
# Of a version or a build: python3.12, platform-python3.6, python3.13t, perl5.40.1, lua-5.4.
_VERSION: Final = re.compile(r"-?[0-9][0-9.]*[a-z]?$")
# ld-linux-x86-64.so.2, ld64.so.1, ld-musl-aarch64.so.1, ld-2.28.so: the file to run is an argument.
_LOADER: Final = re.compile(r"ld(?:[0-9]*|-[A-Za-z0-9_.-]+)\.so(?:\.[0-9]+)*")


TOOLKIT_PROGRAM: Final = f"{WORKSPACE}/toolkit/ld.so"
"""In a rule: the loader of whatever toolkit was pushed, running one of our own roles."""


def is_interpreter(exe: str) -> bool:
    """Whether this program, by its name, runs what it is told."""
    name = posixpath.basename(exe)
    return _VERSION.sub("", name) in _INTERPRETERS or _LOADER.fullmatch(name) is not None


def _steady(exe: str, words: tuple[str, ...]) -> tuple[str, ...]:
    """A command line without what differs on each node or boot, and runs nothing.

    dbus-broker is told the machine-id; systemd a descriptor, when it was executed anew.
    """
    name = posixpath.basename(exe)
    if name == "systemd":
        return tuple(re.sub("^--deserialize=[0-9]{1,6}$", "--deserialize=", word) for word in words)
    if name == "dbus-broker":
        before = ("", *words)
        return tuple(
            "" if last == "--machine-id" and re.fullmatch("[0-9a-f]{32}", word) else word
            for last, word in zip(before, words, strict=False)
        )
    return words


@dataclass(frozen=True, slots=True)
class ProgramRule:
    """A program that may run: its executable, and how it may have been started.

    `may_generate_code` lets it have executable anonymous memory (a just-in-time compiler);
    `own_namespaces` lets it live in other namespaces than init (a sandboxed service).
    """

    is_row: ClassVar[bool] = True
    exe: Text
    invocation: Invocation
    argv: tuple[Text, ...] = ()
    may_generate_code: bool = False
    own_namespaces: bool = False

    def __post_init__(self) -> None:
        if not is_normal(self.exe):
            raise ValueError(f"a program rule wants an absolute path: {self.exe[:200]!a}")
        is_ours = self.exe == TOOLKIT_PROGRAM
        if self.invocation is Invocation.ANY and is_interpreter(self.exe) and not is_ours:
            raise ValueError(f"{self.exe} runs what it is told: name its exact arguments")
        if bool(self.argv) != (self.invocation is Invocation.EXACT):
            raise ValueError(f"{self.exe}: arguments go with an exact invocation only")

    def has_words(self, cmdline: tuple[str, ...]) -> bool:
        """Whether these are its exact arguments, of this node or another one like it."""
        is_exact = self.invocation is Invocation.EXACT
        return is_exact and _steady(self.exe, cmdline) == _steady(self.exe, self.argv)


@dataclass(frozen=True, slots=True)
class SocketRule:
    """A socket that may listen: protocol as evidence names it, port (0: any), who holds it."""

    is_row: ClassVar[bool] = True
    protocol: Text
    port: Annotated[int, within(0, 65535)]
    exe: Text
