# SPDX-License-Identifier: GPL-2.0-or-later
"""What a job wrote into directories of the caller's: it goes back there (decision 0069)."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Mapping

from mock_cloud.wire.tree_archive import DEPTH_MAX, Facts, Problem, Writer

_Seen = tuple[int, int, int]


class Gains:
    """Compares directories with what they were when this was made. OSError."""

    def __init__(self, directories: Mapping[str, str]) -> None:
        self._directories = dict(directories)
        self._before = {name: dict(_look(path)) for name, path in self._directories.items()}

    def pack(self, path: str) -> list[Problem]:
        """Write what is new or changed since, if anything, as the archive `path`; what cannot be.

        What is gone is not told: it stays where it came from.
        """
        found = {name: self._gained(name, top) for name, top in self._directories.items()}
        found = {name: wanted for name, wanted in found.items() if wanted}
        if not found:
            return []
        with open(path, "wb") as stream:
            archive = Writer(stream)
            for name, wanted in found.items():
                archive.enter(name, Facts(0o755))
                top = self._directories[name]
                for entry in sorted(os.listdir(top)):
                    full = os.path.join(top, entry)
                    if full in wanted:
                        archive.add(entry, full, select=wanted.__contains__)
                archive.leave()
            archive.close()
        return archive.problems

    def _gained(self, name: str, top: str) -> set[str]:
        """Paths of what is new or changed, and of the directories on the way there."""
        wanted: set[str] = set()
        for path, seen in _look(top):
            before = self._before[name].get(path)
            if before == seen or (before and stat.S_ISDIR(before[1]) and stat.S_ISDIR(seen[1])):
                continue
            here = path
            while here not in wanted and here != top:
                wanted.add(here)
                here = os.path.dirname(here)
        return wanted


def _look(top: str) -> Iterator[tuple[str, _Seen]]:
    """Each path below, and what changes whenever it does: the kernel sets the last of them."""
    pending = [(top, 0)]
    while pending:
        where, depth = pending.pop()
        with contextlib.suppress(OSError):  # beyond PATH_MAX, say: `Writer` tells what it lacks
            for entry in os.scandir(where):
                found = entry.stat(follow_symlinks=False)
                yield entry.path, (found.st_ino, found.st_mode, found.st_ctime_ns)
                if stat.S_ISDIR(found.st_mode) and depth <= DEPTH_MAX:
                    pending.append((entry.path, depth + 1))
