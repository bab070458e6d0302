# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's own file systems, read through mounts that nobody else sees.

What they hold works whether or not they are mounted: a format of binfmt_misc, a probe, a release
agent of a control group. So they are mounted here, by one thread in a mount namespace of its own,
which ends with it. No path of the node's is read, nor what others have mounted over one.
"""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from mock_cloud.agent.measure import opening, procfs

_POINT: Final = "/sys"  # there on every node, and hidden from this thread alone
# linux/sched.h, linux/mount.h; MNT_DETACH of linux/fs.h
_CLONE_NEWNS: Final = 0x00020000
_NOSUID: Final = 0x2
_NODEV: Final = 0x4
_NOEXEC: Final = 0x8
_REC: Final = 0x4000
_PRIVATE: Final = 1 << 18
_DETACH: Final = 2

T = TypeVar("T")


def in_own_namespace(work: Callable[[], T]) -> T:
    """The result of `work`, done by a thread in a mount namespace of its own.

    Raises what `work` raises, and OSError where the rights for a namespace are missing.
    """
    results: list[T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            _check(opening.libc().unshare(ctypes.c_int(_CLONE_NEWNS)))
            _mount("none", "/", "", _REC | _PRIVATE)
            results.append(work())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, name="mounts")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


@contextmanager
def mounted(kind: str, options: str = "") -> Iterator[str]:
    """The directory where the file system `kind` is, within `in_own_namespace`.

    OSError, with ENODEV where the kernel has none now: to ask for it would have it load a module.
    """
    if kind not in _known_types():
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), kind)
    _mount(kind, _POINT, options, _NOSUID | _NODEV | _NOEXEC)
    try:
        yield _POINT
    finally:
        _check(opening.libc().umount2(os.fsencode(_POINT), ctypes.c_int(_DETACH)))


def _known_types() -> set[str]:
    lines = os.fsdecode(procfs.read_bounded("/proc/filesystems")).splitlines()
    return {line.split()[-1] for line in lines if line.split()}


def _mount(kind: str, point: str, options: str, flags: int) -> None:
    words = (os.fsencode(word) for word in (kind, point, kind))
    _check(
        opening.libc().mount(
            *words, ctypes.c_ulong(flags), os.fsencode(options) if options else None
        )
    )


def _check(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
