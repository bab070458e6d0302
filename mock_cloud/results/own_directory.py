# SPDX-License-Identifier: GPL-2.0-or-later
"""A package's own directory of results, and the resultdir around it, which gets what mock leaves.

Packages are in both, as one file with two names where the file system has that: the provenance in
the own directory is about what lies beside it.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

from mock_cloud.errors import LocalResultError
from mock_cloud.file_owner import as_owner
from mock_cloud.results.disk import translate
from mock_cloud.results.livelog import LiveLog
from mock_cloud.results.staging import STAGING_PREFIX
from mock_cloud.wire.job_request import LIVE_LOGS

_BLOCK_BYTES: Final = 1 << 20
_CONTROLLERS: Final = "remote_"

_Identity = tuple[int, int, int]


class OwnDirectory:
    """The directory at `path`; its parent is the resultdir. Made before the build begins."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._before = {name: _identify(path / name) for name in self._names()}

    @as_owner()
    def publish(self) -> None:
        """Have in the resultdir what came here since: new files, and what the logs gained.

        LocalResultError, ResultDirError; what is there already stays.
        """
        names = self._names()
        for name in names:
            if name in LIVE_LOGS:
                self._append(name)
        for name in names:
            is_new = _identify(self.path / name) != self._before.get(name)
            if is_new and name not in LIVE_LOGS and not name.startswith(_CONTROLLERS):
                self._put(name)

    def _names(self) -> list[str]:
        """Files that mock leaves; packages come last."""
        try:
            found = [
                one.name for one in os.scandir(self.path) if one.is_file(follow_symlinks=False)
            ]
        except OSError:
            return []
        names = (name for name in found if not name.startswith(STAGING_PREFIX))
        return sorted(names, key=lambda name: (name.endswith(".rpm"), name))

    def _append(self, name: str) -> None:
        """All of a package's log at a time, so that no line of another's is in between."""
        path, begin = self.path / name, self._before.get(name, (0, 0, 0))[2]
        log = LiveLog.open(self.path.parent, name, append=True)
        try:
            with path.open("rb") as stream:
                stream.seek(begin)
                while data := stream.read(_BLOCK_BYTES):
                    log.write(data)
        except OSError as error:
            raise translate(error, path) from error
        finally:
            log.close()

    def _put(self, name: str) -> None:
        source, target = self.path / name, self.path.parent / name
        if target.is_dir() and not target.is_symlink():
            raise LocalResultError(f"{target} is a directory", hint="remove or rename it")
        new = target.with_name(f"{STAGING_PREFIX}{name}")
        try:
            new.unlink(missing_ok=True)
            try:
                os.link(source, new, follow_symlinks=False)
            except OSError:  # a file system without links
                shutil.copyfile(source, new, follow_symlinks=False)
            new.replace(target)
        except OSError as error:
            raise translate(error, target) from error


def _identify(path: Path) -> _Identity:
    """Which file it is, and its size in bytes."""
    try:
        facts = os.lstat(path)
    except OSError:
        return 0, 0, 0
    return facts.st_ino, facts.st_mtime_ns, facts.st_size
