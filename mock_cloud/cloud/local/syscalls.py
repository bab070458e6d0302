# SPDX-License-Identifier: GPL-2.0-or-later
"""Linux calls that Python 3.10 lacks: namespaces, mounts, parent-death signal, capabilities.

Numbers are from linux/sched.h, linux/mount.h, linux/prctl.h and linux/capability.h; they are the
same on every architecture but for pivot_root's.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import platform
import signal
from typing import Final

CLONE_NEWNS: Final = 0x00020000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000

MS_RDONLY: Final = 1
MS_NOSUID: Final = 2
MS_NODEV: Final = 4
MS_NOEXEC: Final = 8
MS_BIND: Final = 4096
MS_REC: Final = 16384
MS_PRIVATE: Final = 1 << 18
MNT_DETACH: Final = 2

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

# asm/unistd.h; all architectures newer than these share asm-generic's 41.
_PIVOT_ROOT: Final = {"x86_64": 155, "i686": 217, "ppc64le": 203, "s390x": 217, "armv7l": 218}


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """unshare(2). OSError."""
    _check(_libc().unshare(flags), "unshare")


def enter_own_pid_namespace() -> None:
    """Have later children born in this process's pid namespace again, after an unshare."""
    descriptor = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc().setns(descriptor, CLONE_NEWPID), "setns")
    finally:
        os.close(descriptor)


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2). OSError names the target."""
    result = _libc().mount(
        os.fsencode(source),
        os.fsencode(target),
        os.fsencode(kind) or None,
        ctypes.c_ulong(flags),
        os.fsencode(options) or None,
    )
    _check(result, f"mount {kind or source} on {target}")


def unmount(target: str, flags: int = 0) -> None:
    """umount2(2). OSError names the target."""
    _check(_libc().umount2(os.fsencode(target), flags), f"umount {target}")


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2). OSError."""
    number = _PIVOT_ROOT.get(platform.machine(), 41)
    _check(_libc().syscall(number, os.fsencode(new_root), os.fsencode(put_old)), "pivot_root")


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that forked it ends."""
    _check(_libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl PDEATHSIG")


def drop_from_bounding_set(capability: int) -> None:
    """Make a capability unavailable to this process and all its descendants.

    One that the kernel has not heard of yet (38 and later: Linux 5.8) is unavailable anyway.
    """
    result = _libc().prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    if result == 0 or ctypes.get_errno() != errno.EINVAL:
        _check(result, "prctl CAPBSET_DROP")
