# SPDX-License-Identifier: GPL-2.0-or-later
"""The local disk: how much is free, what a failed write means, making files durable."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

from mock_cloud.errors import LocalDiskFull, LocalResultError

RESERVE_BYTES: Final = 16 << 20
"""Left free for logs that still grow."""

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def disk_of(path: Path) -> Path:
    """The mount point `path` lies on."""
    path = path.resolve()
    while not os.path.ismount(path):
        path = path.parent
    return path


def check_space(path: Path, wanted_bytes: int) -> None:
    """Raise LocalResultError naming the disk unless `wanted_bytes` fit on that of `path`."""
    try:
        facts = os.statvfs(path)
    except OSError as error:
        raise translate(error, path) from error
    free_bytes = facts.f_bavail * facts.f_frsize
    if wanted_bytes + RESERVE_BYTES > free_bytes:
        raise LocalDiskFull(
            f"the results need {_mib(wanted_bytes)} MiB, the disk {disk_of(path)} with the "
            f"resultdir {path} has {_mib(free_bytes)} MiB free",
            hint="make room or choose another --resultdir, then build again",
        )


def translate(error: OSError, path: Path) -> LocalResultError:
    """A LocalResultError for a failed operation on `path`, which names a full disk as such."""
    if error.errno in _FULL:
        return LocalDiskFull(
            f"the disk {disk_of(path.parent)} is full: cannot write {path}",
            hint="make room or choose another --resultdir, then build again",
        )
    return LocalResultError(f"cannot write {path}: {error.strerror}")


def sync_directory(descriptor: int) -> None:
    """Make renames in a directory durable, where the file system can."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EROFS, errno.ENOTSUP):
            raise


def _mib(size_bytes: int) -> int:
    return -(-size_bytes // (1 << 20))
