# SPDX-License-Identifier: GPL-2.0-or-later
"""Opening paths without following what an attacker may have put in their way.

openat2(2), since Linux 5.6, refuses links and mount crossings in the kernel itself. Python
has no wrapper for it, so it is called by number. Where it is missing (older kernels, some
seccomp filters), links in the last component are refused and crossings are told by the
descriptor's mount id.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import sys
from typing import Final

from mock_cloud.wire import syscalls

# linux/openat2.h
RESOLVE_NO_XDEV: Final = 0x01
RESOLVE_NO_MAGICLINKS: Final = 0x02
RESOLVE_NO_SYMLINKS: Final = 0x04
RESOLVE_IN_ROOT: Final = 0x10

_SYS_OPENAT2: Final = 437  # the same on every architecture but alpha
_AT_FDCWD: Final = -100

DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


def openat2(dir_fd: int, path: str, flags: int, resolve: int) -> int:
    """A descriptor for `path` under `dir_fd`. OSError, with EXDEV for a refused crossing."""
    how = _OpenHow(flags | os.O_CLOEXEC, 0, resolve)
    fd: int = syscalls.libc().syscall(
        ctypes.c_long(_SYS_OPENAT2),
        ctypes.c_int(dir_fd),
        ctypes.c_char_p(os.fsencode(path)),
        ctypes.byref(how),
        ctypes.c_size_t(ctypes.sizeof(how)),
    )
    syscalls.check(fd, path)
    return fd


@functools.cache
def has_openat2() -> bool:
    """Whether this kernel (and any filter on us) lets openat2 through."""
    try:
        os.close(openat2(_AT_FDCWD, "/", os.O_PATH, 0))
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EPERM):
            return False
        raise
    return True


def file_system_type(fd: int) -> int:
    """The magic number of the file system that `fd` is on (statfs(2), linux/magic.h). OSError."""
    facts = ctypes.create_string_buffer(256)  # struct statfs has at most 120 bytes
    syscalls.check(syscalls.libc().fstatfs(ctypes.c_int(fd), ctypes.byref(facts)))
    # A long on most machines, an int on s390x, which is big-endian: these bytes on both.
    return int.from_bytes(facts.raw[:4], sys.byteorder)


def mount_id(fd: int) -> int:
    """The id, as in mountinfo, of the mount that `fd` was opened on (proc(5), fdinfo)."""
    with open(f"/proc/self/fdinfo/{fd}", "rb") as lines:
        for line in lines:
            if line.startswith(b"mnt_id:"):
                return int(line[7:])
    raise OSError(errno.ENOSYS, "fdinfo has no mnt_id")


def open_directory(mount_fd: int, path: str) -> int:
    """The directory `path` below `mount_fd`, as `open_on_mount` opens it."""
    return open_on_mount(mount_fd, path, DIRECTORY)


def open_on_mount(mount_fd: int, path: str, flags: int) -> int:
    """`path` below `mount_fd`, on the same mount, through no link.

    `path` is relative; "." is the mount's root itself. OSError with EXDEV for a crossing.
    """
    if has_openat2():
        return openat2(mount_fd, path, flags, RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS)
    fd = os.open(path, flags, dir_fd=mount_fd)
    try:
        if mount_id(fd) != mount_id(mount_fd):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
    except OSError:
        os.close(fd)
        raise
    return fd


def open_in_root(root: str, path: str, flags: int) -> int:
    """`path` as a process chrooted to `root` would open it; links stay inside `root`."""
    if root == "/":
        return os.open(path, flags | os.O_CLOEXEC)
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if has_openat2():
            return openat2(root_fd, path, flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
        return os.open(path.lstrip("/"), flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root_fd)
    finally:
        os.close(root_fd)
