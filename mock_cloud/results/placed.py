# SPDX-License-Identifier: GPL-2.0-or-later
"""Results of a job that were published before its end."""

from __future__ import annotations

import os
from dataclasses import field
from pathlib import Path

from mock_cloud.wire.dataclass import dataclass


@dataclass(slots=True)
class PlacedFiles:
    """By the name of each: its sha256 (hex), its path, and which file that was then.

    `times` is how often some were published.
    """

    times: int = 0
    _files: dict[str, tuple[str, Path, tuple[int, ...]]] = field(default_factory=dict)

    def note(self, name: str, sha256: str, path: Path) -> None:
        """`name` is at `path` now."""
        self._files[name] = (sha256, path, _identify(path))

    def find(self, name: str, sha256: str) -> Path | None:
        """Where the result with this digest is still in place; None if it is to be fetched."""
        digest, path, identity = self._files.get(name, ("", Path(), ()))
        return path if digest == sha256 and identity and _identify(path) == identity else None


def _identify(path: Path) -> tuple[int, ...]:
    """Nothing for a file that is not there."""
    try:
        facts = os.lstat(path)
    except OSError:
        return ()
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns
