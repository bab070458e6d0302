# SPDX-License-Identifier: GPL-2.0-or-later
"""The walk: names only, in batches that another process can measure.

The walker reads directories and nothing else, so that it stays ahead of the processes that
open and hash. Files of a directory are listed by inode number, the order in which most file
systems laid them out.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Iterator
from dataclasses import field
from typing import Final

from mock_cloud.agent.measure import opening
from mock_cloud.wire.dataclass import dataclass

_BATCH_ENTRIES: Final = 256
_CHUNK_ENTRIES: Final = 1024

Task = tuple[int, str, list[str], list[str]]
"""Root number, directory below it, its regular files, its other entries to be reported.

The directory itself is among the others, as ".", in the first task of a directory.
"""

Unreadable = tuple[str, str]
"""A path as the node names it, and an errno name, `changed`, `crossed`, or `linked`: it was
measured, and has other names, too."""


@dataclass(frozen=True, slots=True)
class Root:
    """Where a walk starts. `fd` is its directory; the walk stays on that directory's mount.

    `own` names the root in the evidence, `lead` is put before the paths below it. `where` is
    the node's path of the root, for errors. `sink` collects its rows (see `pool.Output`).
    `files_only`: report regular files alone. Below it, `points` are roots themselves, and
    `skip` are reported as one entry without what is in them.
    """

    fd: int
    own: str
    lead: str
    where: str
    sink: int = 0
    files_only: bool = False
    points: frozenset[str] = frozenset()
    skip: frozenset[str] = frozenset()

    def label(self, directory: str) -> str:
        """What comes before the name of an entry of `directory` in the evidence."""
        return self.lead if directory == "." else f"{self.lead}{directory}/"

    def node_path(self, directory: str, name: str = ".") -> str:
        """The node's path of an entry of `directory`, or of the directory itself."""
        return os.path.normpath(os.path.join(self.where, directory, name))


def errno_name(error: OSError) -> str:
    """What evidence calls this failure: `crossed`, or the errno's name."""
    if error.errno == errno.EXDEV:
        return "crossed"
    return errno.errorcode.get(error.errno or 0, "EIO")


@dataclass(slots=True)
class Walker:
    """Walks `roots`. `unreadable` has the directories that could not be read, once done."""

    roots: Collection[Root]
    unreadable: list[Unreadable] = field(default_factory=list)

    def batches(self) -> Iterator[list[Task]]:
        """All tasks, about `_BATCH_ENTRIES` entries at a time."""
        batch: list[Task] = []
        weight = 0
        for number, root in enumerate(self.roots):
            for task in self._tasks(number, root):
                batch.append(task)
                weight += len(task[2]) + len(task[3])
                if weight >= _BATCH_ENTRIES:
                    yield batch
                    batch, weight = [], 0
        if batch:
            yield batch

    def _tasks(self, number: int, root: Root) -> Iterator[Task]:
        pending = ["."]
        while pending:
            directory = pending.pop()
            try:
                files, others, below = self._list(root, directory)
            except OSError as error:
                self.unreadable.append((root.node_path(directory), errno_name(error)))
                continue
            pending += reversed(below)
            if root.files_only:
                others = []
            else:
                others.append(".")
            if len(files) + len(others) <= _CHUNK_ENTRIES:
                yield (number, directory, files, others)
                continue
            for start in range(0, len(files), _CHUNK_ENTRIES):
                yield (number, directory, files[start : start + _CHUNK_ENTRIES], [])
            for start in range(0, len(others), _CHUNK_ENTRIES):
                yield (number, directory, [], others[start : start + _CHUNK_ENTRIES])

    def _list(self, root: Root, directory: str) -> tuple[list[str], list[str], list[str]]:
        """Regular files by inode, other entries, and directories to descend into (paths)."""
        fd = opening.open_directory(root.fd, directory)
        try:
            files, others, below = [], [], []
            lead = "" if directory == "." else f"{directory}/"
            guarded = root.points or root.skip
            where = root.label(directory) if guarded else ""
            with os.scandir(fd) as entries:
                for entry in entries:
                    if entry.is_file(follow_symlinks=False):
                        files.append((entry.inode(), entry.name))
                    elif not entry.is_dir(follow_symlinks=False):
                        others.append(entry.name)
                    elif not guarded:
                        below.append(lead + entry.name)
                    elif (path := where + entry.name) in root.points:
                        continue  # measured as a root of its own
                    elif path in root.skip:
                        others.append(entry.name)
                    else:
                        below.append(lead + entry.name)
        finally:
            os.close(fd)
        files.sort()
        below.sort()
        return [name for _, name in files], others, below
