# SPDX-License-Identifier: GPL-2.0-or-later
"""A shadow directory: what others look for in a chroot's tree, though the chroot is on a node.

It lies where the chroot would be, BASEDIR/ROOT/root, and has the packages' database, dnf's logs,
and one directory that is the same here and there. All of it are plain files of the user's.
docs/decisions/0025 says why.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any, Final

from mock_cloud.errors import ResultDirError
from mock_cloud.results.disk import translate
from mock_cloud.results.livelog import LiveLog
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.decode import load_json
from mock_cloud.wire.files import replace_file
from mock_cloud.wire.shadow_tree import (
    BUILD_USER,
    RPMDB_PLACES,
    Listing,
    add_changed,
    take_listing,
)
from mock_cloud.wire.tree_archive import Writer

_LOGS: Final = "var/log"
_STATE: Final = ".mock-cloud-shadow.json"


@dataclass(frozen=True, slots=True)
class Changes:
    """What was done here in the shared directory since it was last the same as the node's.

    `changed` and `removed` are paths relative to it; with `whole` nothing is known about the
    node's, and `changed` is all there is.
    """

    changed: tuple[str, ...]
    removed: tuple[str, ...]
    whole: bool


class ShadowDir:
    """The shadow in `base` (BASEDIR/ROOT); `tmpdir` is the shared directory's path in the chroot.

    Everything raises ResultDirError or ResultError where the disk or a permission is in the way.
    """

    def __init__(self, base: Path, tmpdir: str) -> None:
        self.base = base
        self.root = base / "root"
        self.tmpdir = tmpdir
        self.shared = self.root / tmpdir.lstrip("/")
        self._state = base / _STATE

    def open(self, *, fresh: bool) -> None:
        """Make the directories. `fresh`: the chroot is made anew, so nothing of it is left."""
        if fresh:
            self.clear()
        try:
            for path in (self.shared, self.root / _LOGS):
                path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._refused(error) from error

    def clear(self) -> None:
        """Remove what is in it, the state too. dnf's logs are emptied and stay the same files."""
        try:
            self._state.unlink(missing_ok=True)
            for path in self.root.iterdir() if self.root.is_dir() else ():
                if path.is_symlink() or not path.is_dir():
                    path.unlink()
                elif path.name != "var":
                    shutil.rmtree(path)
            for place in RPMDB_PLACES:
                if (self.root / place).is_dir():
                    shutil.rmtree(self.root / place)
            for log in (self.root / _LOGS).glob("*.log"):
                if not log.is_symlink():
                    os.truncate(log, 0)
        except OSError as error:
            raise self._refused(error) from error

    @property
    def is_made(self) -> bool:
        """Whether an earlier command left the chroot on a node."""
        return bool(self._read_state().get("made"))

    @property
    def has_packages(self) -> bool:
        """Whether the packages' database is here."""
        return any((self.root / place).is_dir() for place in RPMDB_PLACES)

    def changes(self) -> Changes:
        """What the node has to be told."""
        now, known = take_listing(str(self.shared)), self._read_state().get("shared")
        if not isinstance(known, dict):
            return Changes(tuple(now), (), whole=True)
        changed = tuple(path for path in now if known.get(path) != now[path])
        return Changes(changed, tuple(sorted(known.keys() - now.keys())), whole=False)

    def pack(self, changes: Changes, archive: Path) -> None:
        """Write an archive of what was changed. What is the user's here is the build user's there.

        ResultDirError for what cannot be read.
        """
        user = os.geteuid()
        try:
            with archive.open("wb") as stream:
                writer = Writer(
                    stream, find_owner=lambda uid: BUILD_USER if user and uid == user else 0
                )
                add_changed(writer, str(self.shared), changes.changed)
                writer.close()
        except OSError as error:
            raise self._refused(error) from error

    def begin(self) -> None:
        """Note that both sides may differ from now on, until `remember`."""
        self._write_state({"made": self.is_made})

    def remember(self, *, made: bool) -> None:
        """Note that both sides are the same now. `made`: the chroot lives on the node."""
        shared: Listing = take_listing(str(self.shared))
        self._write_state({"made": made, "shared": shared})

    def log(self, name: str) -> LiveLog:
        """dnf's log `name`, to be appended to: a checked bare name."""
        return LiveLog.open(self.root / _LOGS, name, append=True)

    def _read_state(self) -> dict[str, Any]:
        try:
            raw = load_json(self._state.read_bytes())
        except (OSError, ValueError):
            return {}
        return raw if isinstance(raw, dict) else {}

    def _write_state(self, state: dict[str, Any]) -> None:
        try:
            replace_file(self._state, json.dumps(state).encode())
        except OSError as error:
            raise translate(error, self._state) from error

    def _refused(self, error: OSError) -> ResultDirError:
        return ResultDirError(
            f"cannot use the chroot's directory {error.filename or self.base}: {error.strerror}",
            hint=f"it must be this user's: remove {self.base} and begin with --init",
        )
