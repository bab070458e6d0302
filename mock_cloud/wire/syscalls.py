# SPDX-License-Identifier: GPL-2.0-or-later
"""Linux system calls that Python 3.10 has no function for.

Constants are from the kernel's uapi headers (`linux/mount.h`, `linux/sched.h`, `linux/prctl.h`,
`linux/capability.h`, `linux/personality.h`, `linux/rtnetlink.h`) and are the same on all
architectures.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import functools
import os
import signal
import socket
import struct
from typing import Any, Final

MS_RDONLY: Final = 0x1
MS_NOSUID: Final = 0x2
MS_NODEV: Final = 0x4
MS_NOEXEC: Final = 0x8
MS_REMOUNT: Final = 0x20
MS_BIND: Final = 0x1000
MS_REC: Final = 0x4000
MS_PRIVATE: Final = 0x40000
MNT_DETACH: Final = 0x2
UMOUNT_NOFOLLOW: Final = 0x8

CLONE_NEWNS: Final = 0x00020000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000

CAP_LINUX_IMMUTABLE: Final = 9
CAP_NET_BROADCAST: Final = 11
CAP_NET_ADMIN: Final = 12
CAP_NET_RAW: Final = 13
CAP_SYS_MODULE: Final = 16
CAP_SYS_RAWIO: Final = 17
CAP_SYS_PACCT: Final = 20
CAP_SYS_TIME: Final = 25
CAP_SYS_TTY_CONFIG: Final = 26
CAP_AUDIT_CONTROL: Final = 30
CAP_MAC_OVERRIDE: Final = 32
CAP_MAC_ADMIN: Final = 33
CAP_SYSLOG: Final = 34
CAP_WAKE_ALARM: Final = 35
CAP_BLOCK_SUSPEND: Final = 36
CAP_AUDIT_READ: Final = 37
CAP_PERFMON: Final = 38
CAP_BPF: Final = 39
CAP_CHECKPOINT_RESTORE: Final = 40

_PR_SET_PDEATHSIG: Final = 1
_PR_CAPBSET_DROP: Final = 24
_PER_LINUX32: Final = 0x0008
_PER_32BIT_ARCHES: Final = frozenset(
    (
        "i386", "i486", "i586", "i686", "athlon", "ppc", "sparc", "sparcv9", "s390", "mips",
        "mipsel", "riscv32", "armv7l", "armv7hl", "armv7hnl", "armv8hl",
    )
)  # fmt: skip
# asm/unistd.h; all architectures newer than these share asm-generic's 41.
_PIVOT_ROOT: Final = {"x86_64": 155, "i686": 217, "ppc64le": 203, "s390x": 217, "armv7l": 218}
_LANDLOCK_CREATE_RULESET: Final = 444  # the same on every architecture, as all since Linux 5.1
_LANDLOCK_RESTRICT_SELF: Final = 446
_LANDLOCK_CREATE_RULESET_VERSION: Final = 1  # linux/landlock.h
_LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET: Final = 1
_LANDLOCK_SCOPES: Final = 6  # the ABI that has them, Linux 6.12
_POWER_OFF: Final = 0x4321FEDC  # linux/reboot.h
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 0x1


@functools.cache
def libc() -> ctypes.CDLL:
    """The C library this process already has."""
    return ctypes.CDLL(None, use_errno=True)


def check(result: int, *where: str) -> None:
    """OSError, naming `where`, for what a call gave back if that is -1."""
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), *where)


def _bytes(value: str | None) -> Any:
    return None if value is None else os.fsencode(value)


def mount(
    source: str, target: str, kind: str | None = None, flags: int = 0, options: str | None = None
) -> None:
    """mount(2). OSError names the target."""
    result = libc().mount(
        _bytes(source), _bytes(target), _bytes(kind), ctypes.c_ulong(flags), _bytes(options)
    )
    check(result, target)


def umount(target: str, flags: int = 0) -> None:
    """umount2(2) without following a link. OSError names the target."""
    check(libc().umount2(_bytes(target), flags | UMOUNT_NOFOLLOW), target)


def bind_mount(source: str, target: str, *, flags: int = 0, recursive: bool = False) -> None:
    """Bind `source` at `target`; `flags` (read-only and the like) need a second call."""
    mount(source, target, None, MS_BIND | (MS_REC if recursive else 0))
    if flags:
        mount("none", target, None, MS_BIND | MS_REMOUNT | flags)


def make_mounts_private() -> None:
    """No mount of this namespace reaches another one, nor the other way round."""
    mount("none", "/", None, MS_REC | MS_PRIVATE)


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2). OSError."""
    number = _PIVOT_ROOT.get(os.uname().machine, 41)
    check(libc().syscall(number, os.fsencode(new_root), os.fsencode(put_old)), "pivot_root")


def scope_abstract_sockets() -> None:
    """Let this process reach abstract Unix sockets of its descendants alone (landlock(7)).

    They belong to a network, not to a root directory. Nothing before Linux 6.12, or where Landlock
    is off. Needs CAP_SYS_ADMIN in its user namespace. OSError.
    """
    call = libc().syscall
    version = call(
        _LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), _LANDLOCK_CREATE_RULESET_VERSION
    )
    if version < _LANDLOCK_SCOPES:
        return
    wanted = struct.pack("=QQQ", 0, 0, _LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET)
    ruleset = call(_LANDLOCK_CREATE_RULESET, wanted, ctypes.c_size_t(len(wanted)), 0)
    check(ruleset, "landlock")
    check(call(_LANDLOCK_RESTRICT_SELF, ruleset, 0), "landlock")
    os.close(ruleset)


def unshare(flags: int) -> None:
    """unshare(2)."""
    check(libc().unshare(flags), "unshare")


def enter_namespace(descriptor: int, kind: int) -> None:
    """setns(2) into the namespace open as `descriptor`."""
    check(libc().setns(descriptor, kind), "setns")


def enter_own_pid_namespace() -> None:
    """Have later children born in this process's pid namespace again, after an unshare."""
    descriptor = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter_namespace(descriptor, CLONE_NEWPID)
    finally:
        os.close(descriptor)


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that forked it ends."""
    check(libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl PDEATHSIG")


def drop_from_bounding_set(capability: int) -> None:
    """Make a capability unavailable to this process and all its descendants.

    One that the kernel has not heard of yet (38 and later: Linux 5.8) is unavailable anyway.
    """
    result = libc().prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    if result == 0 or ctypes.get_errno() != errno.EINVAL:
        check(result, "prctl CAPBSET_DROP")


def set_personality(arch: str) -> None:
    """Make uname(2) tell a 32-bit machine where `arch` (rpm's word) is one."""
    if arch in _PER_32BIT_ARCHES:
        check(libc().personality(ctypes.c_ulong(_PER_LINUX32)), "personality")


def power_off() -> None:
    """reboot(2): off at once, without a word to anybody; in a pid namespace, its end. OSError."""
    check(libc().reboot(ctypes.c_uint(_POWER_OFF)), "power off")


def isolate_network() -> None:
    """A network namespace with nothing but a loopback, up and with a default route.

    Without any route, programs that look up their own address fail in odd ways
    (rpm-software-management/mock issue 113).
    """
    unshare(CLONE_NEWNET)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP))
    _add_default_route(socket.if_nametoindex("lo"))


def _add_default_route(interface: int) -> None:
    """rtnetlink(7) RTM_NEWROUTE: main table, protocol boot, scope link, unicast."""
    route = struct.pack("=BBBBBBBBI", socket.AF_INET, 0, 0, 0, 254, 3, 253, 1, 0)
    device = struct.pack("=HHI", 8, 4, interface)
    body = route + device
    request_create_ack = 0x1 | 0x400 | 0x4
    message = struct.pack("=IHHII", 16 + len(body), 24, request_create_ack, 1, 0) + body
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as link:
        link.send(message)
        answer = link.recv(4096)
    number = -int(struct.unpack_from("=i", answer, 16)[0])
    if number:
        raise OSError(number, os.strerror(number), "default route")
