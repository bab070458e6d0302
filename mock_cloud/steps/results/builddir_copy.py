# SPDX-License-Identifier: GPL-2.0-or-later
"""A copy of builddir/build of a kept chroot, where tools that ask mock for its path look for it.

It lies below BASEDIR/ROOT/root, which --print-root-path prints, and only where no local chroot is.
While a command is at work it is out of sight, so that a command that fails leaves none; what the
node sends of it is hostile. docs/decisions/0097 says why.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mock_cloud.config.defaults import ConfigOpts
from mock_cloud.config.paths import COPY_MARK, Paths
from mock_cloud.config.values import read_text
from mock_cloud.console import Console
from mock_cloud.errors import ConfigError, LocalResultError, ResultError
from mock_cloud.file_owner import as_owner
from mock_cloud.results.archive import (
    open_archive,
    open_result_directory,
    space_watch,
    stays_inside,
)
from mock_cloud.steps.results.copyout import fetch_archive
from mock_cloud.wire import tree_unpack
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.decode import load_json
from mock_cloud.wire.files import NAME_MAX_BYTES
from mock_cloud.wire.job_request import BUILDDIR_ARCHIVE, BuilddirOrder, is_plain_path
from mock_cloud.wire.replies import JobEnd
from mock_cloud.wire.tree_archive import TARGET_MAX_BYTES, TreeError
from mock_cloud.wire.tree_unpack import Unpacker

if TYPE_CHECKING:
    from mock_cloud.remote.trusted import TrustedChannel

COPIED_MAX: Final = 100_000
_PREFIX: Final = ".mock-cloud-"
_BEFORE: Final = f"{_PREFIX}before"
_NEW: Final = f"{_PREFIX}new"
_HEAD_MAX_BYTES: Final = 64 + NAME_MAX_BYTES + TARGET_MAX_BYTES
"""What a member of an archive has besides its contents."""
_MARK_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
_MARK_TEXT: Final = "made by mock-cloud: the chroot is on a node, builddir/build is a copy"


@dataclass(slots=True)
class BuilddirCopy:
    """The copy in `root`, for one command: `begin` before its job, `collect` after it."""

    root: Path
    order: BuilddirOrder
    console: Console
    _is_off: bool = field(default=False, init=False)

    def begin(self) -> None:
        """Put the copy out of sight. Where none may be, a warning says so, and none will be."""
        try:
            with self._opened(is_made=True) as top:
                names = set(os.listdir(top))  # noqa: PTH208
                foreign = {name for name in names if not name.startswith(_PREFIX)}
                foreign -= {self._parts[0]} if COPY_MARK in names else set()
                if foreign:
                    self._turn_off(f"{self.root} is a local chroot's")
                    return
                for name in names - {COPY_MARK, _BEFORE}:
                    if name.startswith(_PREFIX):
                        tree_unpack.remove(top, name)
                if COPY_MARK not in names:
                    self._write_digest(top, "")
                with tree_unpack.below(top, self._parts[:-1]) as home:
                    if tree_unpack.find_mode(home, self._parts[-1]):
                        tree_unpack.remove(top, _BEFORE)
                        os.rename(self._parts[-1], _BEFORE, src_dir_fd=home, dst_dir_fd=top)
        except OSError as error:
            self._turn_off(f"cannot write {self.root}: {error.strerror}")

    def collect(self, channel: TrustedChannel, job: str, end: JobEnd) -> None:
        """Make it what the job left. ResultError for what no honest node sends, TransportError."""
        if self._is_off:
            return
        listed = next(
            (file for file in channel.results(job) if file.name == BUILDDIR_ARCHIVE), None
        )
        try:
            if listed is None or not end.chroots or not self.order.bytes_max:
                self._empty(is_gone=not end.chroots)
            elif not self._take_again(listed.sha256):
                if listed.size_bytes > self.order.bytes_max + COPIED_MAX * _HEAD_MAX_BYTES:
                    raise ResultError(f"the node's {BUILDDIR_ARCHIVE} is larger than it may be")
                with self._scratch() as scratch:
                    archive = fetch_archive(channel, job, listed, scratch)
                    self._replace(archive, listed.sha256)
        except LocalResultError as error:  # it is a copy: results do not suffer from it
            self.console.warning(f"no copy of {self.order.path[1:]}: {error.message}")
        except OSError as error:
            self.console.warning(f"no copy of {self.order.path[1:]}: {error.strerror}")

    @property
    def _parts(self) -> list[str]:
        return self.order.path[1:].split("/")

    @contextmanager
    def _opened(self, *, is_made: bool = False) -> Iterator[int]:
        with as_owner():
            if is_made:
                self.root.mkdir(parents=True, exist_ok=True)
            with open_result_directory(self.root) as top:
                yield top

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        with as_owner():
            made = tempfile.TemporaryDirectory(prefix=_PREFIX, dir=self.root)
        try:
            yield Path(made.name)
        finally:
            with as_owner():
                made.cleanup()

    def _turn_off(self, why: str) -> None:
        self._is_off = True
        self.console.warning(f"no copy of {self.order.path[1:]}: {why}")

    def _empty(self, *, is_gone: bool) -> None:
        with self._opened() as top:
            was_there = bool(tree_unpack.find_mode(top, _BEFORE))
            if is_gone:
                for name in (_BEFORE, self._parts[0], COPY_MARK):
                    tree_unpack.remove(top, name)
            else:
                tree_unpack.remove(top, _BEFORE)
                self._write_digest(top, "")
        if is_gone:
            with as_owner(), suppress(OSError):  # not empty: something in it is somebody else's
                self.root.rmdir()
        if was_there and is_gone:
            place = self.root.joinpath(*self._parts)
            self.console.info(f"the copy in {place} is removed: its chroot is not kept")

    def _take_again(self, digest: str) -> bool:
        """Whether what is out of sight is what the node has; then it is in its place again."""
        with self._opened() as top:
            if not tree_unpack.find_mode(top, _BEFORE) or self._read_digest() != digest:
                return False
            with tree_unpack.below(top, self._parts[:-1]) as home:
                tree_unpack.remove(home, self._parts[-1])
                os.rename(_BEFORE, self._parts[-1], src_dir_fd=top, dst_dir_fd=home)
        return True

    def _replace(self, archive: Path, digest: str) -> None:
        left_out = 0

        def keeps_link(place: Any, target: str) -> bool:
            nonlocal left_out
            is_kept = stays_inside(place, target)
            left_out += not is_kept
            return is_kept

        look = self._watch()
        with self._opened() as top:
            self._write_digest(top, "")
            for name in (_BEFORE, _NEW):
                tree_unpack.remove(top, name)
            try:
                with open_archive(archive) as reader, tree_unpack.below(top, [_NEW]) as new:
                    Unpacker(keeps_link=keeps_link, on_member=look).unpack(reader, new)
            except BaseException as error:
                tree_unpack.remove(top, _NEW)
                if isinstance(error, FileExistsError):
                    raise ResultError("the node's archive has a name twice") from error
                raise
            with tree_unpack.below(top, self._parts[:-1]) as home:
                tree_unpack.remove(home, self._parts[-1])
                os.rename(_NEW, self._parts[-1], src_dir_fd=top, dst_dir_fd=home)
            self._write_digest(top, digest)
        if left_out:
            self.console.warning(
                f"{left_out} links that lead out of {self.order.path[1:]} are not in its copy"
            )

    def _watch(self) -> Callable[[], None]:
        look = space_watch(self.root)
        members = 0

        def count() -> None:
            nonlocal members
            members += 1
            if members > 2 * COPIED_MAX:  # the end of a directory is a member as well
                raise TreeError("it has more files than were asked for")
            look()

        return count

    def _read_digest(self) -> str:
        try:
            raw = load_json((self.root / COPY_MARK).read_bytes())
        except (OSError, ValueError):
            return ""
        return str(raw.get("sha256", "")) if isinstance(raw, dict) else ""

    def _write_digest(self, top: int, digest: str) -> None:
        text = json.dumps({"about": _MARK_TEXT, "sha256": digest}) + "\n"
        with os.fdopen(os.open(COPY_MARK, _MARK_FLAGS, 0o644, dir_fd=top), "w") as stream:
            stream.write(text)


def plan_copy(opts: ConfigOpts, paths: Paths, limit_mib: int, console: Console) -> BuilddirCopy:
    """The copy of the chroot that `paths` names; with a limit of 0, one that goes.

    ConfigError for a strange chroothome.
    """
    path = f"{read_text(opts, 'chroothome')}/build"
    if not is_plain_path(path) or path.startswith(f"/{_PREFIX}"):
        raise ConfigError(f"config_opts['chroothome'] {path[:-6]!r} is not a directory of a chroot")
    return BuilddirCopy(paths.rootdir, BuilddirOrder(path, limit_mib << 20, COPIED_MAX), console)
