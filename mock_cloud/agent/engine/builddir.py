# SPDX-License-Identifier: GPL-2.0-or-later
"""The result builddir.tree: what is in builddir/build of a chroot (decision 0097)."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from typing import Final

from mock_cloud.agent.engine import processes
from mock_cloud.agent.engine.context import Job
from mock_cloud.wire.job_request import BUILDDIR_ARCHIVE, BuilddirOrder
from mock_cloud.wire.tree_archive import DEPTH_MAX, Writer

_MIB: Final = 1 << 20


def pack_builddir(job: Job, root: str) -> None:
    """Pack it if the request wants it and it is there; a warning says what is not packed.

    `root` is the chroot's root as the node sees it. A job beside another one packs nothing: the
    chroot is the other one's. OSError, EngineError.
    """
    order = job.request.builddir
    if order is None or job.request.beside or not os.path.isdir(root):
        return
    archive = os.path.join(job.results, BUILDDIR_ARCHIVE)
    with open(archive, "wb") as stream:

        def pack() -> bytes:
            size_bytes, files = _measure(order)
            if size_bytes > order.bytes_max or files > order.files_max:
                return json.dumps([size_bytes, files]).encode()
            if not files:
                return b"[]"
            writer = Writer(stream)
            for name in sorted(os.listdir(order.path)):
                writer.add(name, os.path.join(order.path, name))
            writer.close()
            return b""

        answer = processes.call(processes.Place(root=root), pack)
    if not answer:
        return
    os.unlink(archive)
    if too_large := json.loads(answer):
        job.logs.warning(_refusal(order, *too_large))


def _measure(order: BuilddirOrder) -> tuple[int, int]:
    """Bytes of the files, and how many members there are, or the first numbers beyond the order."""
    size_bytes = files = 0
    pending = [(order.path, 0)] if stat.S_ISDIR(_mode(order.path)) else []
    while pending:
        where, depth = pending.pop()
        with contextlib.suppress(OSError):  # beyond PATH_MAX, or it is gone
            for entry in os.scandir(where):
                found = entry.stat(follow_symlinks=False)
                files += 1
                if stat.S_ISREG(found.st_mode):
                    size_bytes += found.st_size
                if size_bytes > order.bytes_max or files > order.files_max:
                    return size_bytes, files
                if stat.S_ISDIR(found.st_mode) and depth <= DEPTH_MAX:
                    pending.append((entry.path, depth + 1))
    return size_bytes, files


def _mode(path: str) -> int:
    try:
        return os.lstat(path).st_mode
    except OSError:
        return 0


def _refusal(order: BuilddirOrder, size_bytes: int, files: int) -> str:
    where = order.path.lstrip("/")
    if size_bytes > order.bytes_max:
        return f"{where} has more than {order.bytes_max // _MIB} MiB: the copy of it is empty"
    return f"{where} has more than {order.files_max} files: the copy of it is empty"
