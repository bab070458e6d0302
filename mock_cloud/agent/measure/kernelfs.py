# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's own file systems, read through mounts that nobody else sees.

What they hold works whether or not they are mounted: a format of binfmt_misc, a probe, a release
agent of a control group. So they are mounted here, by one thread in a mount namespace of its own,
which ends with it. No path of the node's is read, nor what others have mounted over one.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from mock_cloud.agent.measure import procfs
from mock_cloud.wire import syscalls

_POINT: Final = "/sys"  # there on every node, and hidden from this thread alone
_FLAGS: Final = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC

T = TypeVar("T")


def in_own_namespace(work: Callable[[], T]) -> T:
    """The result of `work`, done by a thread in a mount namespace of its own.

    Raises what `work` raises, and OSError where the rights for a namespace are missing.
    """
    results: list[T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            syscalls.unshare(syscalls.CLONE_NEWNS)
            syscalls.make_mounts_private()
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
    syscalls.mount(kind, _POINT, kind, _FLAGS, options or None)
    try:
        yield _POINT
    finally:
        syscalls.umount(_POINT, syscalls.MNT_DETACH)


def _known_types() -> set[str]:
    lines = os.fsdecode(procfs.read_bounded("/proc/filesystems")).splitlines()
    return {line.split()[-1] for line in lines if line.split()}
