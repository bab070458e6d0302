# SPDX-License-Identifier: GPL-2.0-or-later
"""Results arrive beside their place, are checked there, and appear by rename."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import field
from pathlib import Path
from typing import Final

from mock_cloud.errors import LocalResultError, ResultError
from mock_cloud.file_owner import as_owner, create, make_directories, owner_uid
from mock_cloud.invocation.names import find_name_problem
from mock_cloud.results.disk import check_space, sync_directory, translate
from mock_cloud.results.livelog import LiveLog
from mock_cloud.results.names import CHAIN_MARKS, Listed, ManifestEntry, check_manifest
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.terminal_text import printable

STAGING_PREFIX: Final = ".mock-cloud-"


class StagedFile:
    """One result while it is written: hashed as it arrives, never longer than listed."""

    def __init__(self, entry: ManifestEntry, path: Path, descriptor: int) -> None:
        self.entry = entry
        self.path = path
        self.offset = 0
        self._descriptor = descriptor
        self._digest = hashlib.sha256()

    def write(self, data: bytes) -> None:
        """Append `data`. ResultError past the listed size and on a full disk."""
        if self.offset + len(data) > self.entry.size_bytes:
            raise ResultError(
                f"{printable(self.entry.name)}: the node sends more than "
                f"the {self.entry.size_bytes} bytes it lists"
            )
        view = memoryview(data)
        while view:
            try:
                written = os.write(self._descriptor, view)
            except OSError as error:
                raise translate(error, self.path) from error
            self._digest.update(view[:written])
            self.offset += written
            view = view[written:]

    @property
    def is_whole(self) -> bool:
        """Whether all of it arrived, and as it was listed."""
        entry = self.entry
        return self.offset == entry.size_bytes and self._digest.hexdigest() == entry.sha256

    def restart(self) -> None:
        """Forget what arrived: it is fetched anew. LocalResultError."""
        try:
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            os.ftruncate(self._descriptor, 0)
        except OSError as error:
            raise translate(error, self.path) from error
        self.offset, self._digest = 0, hashlib.sha256()

    def verify(self) -> None:
        """Raise ResultError unless size and sha256 are those listed; then flush to disk."""
        name = printable(self.entry.name)
        if self.offset != self.entry.size_bytes:
            raise ResultError(f"{name}: {self.offset} of {self.entry.size_bytes} bytes arrived")
        if self._digest.hexdigest() != self.entry.sha256:
            raise ResultError(f"{name} has not the sha256 that the node lists")
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise translate(error, self.path) from error


class Staging:
    """One attempt's staging directory inside the resultdir; made and ended by `with`.

    1. `accept` checks the node's list and says what is to be fetched;
    2. `file` takes each of those and verifies it;
    3. `publish` moves all of them into the resultdir.

    Leaving the block before `publish` removes everything and changes nothing else.
    """

    def __init__(self, resultdir: Path, attempt: str, *, packages: Collection[str] = ()) -> None:
        problem = find_name_problem(attempt)
        if problem is not None:
            raise ResultError(f"the attempt's id {printable(attempt)!r} is refused: {problem}")
        self.resultdir = resultdir
        self.path = resultdir / f"{STAGING_PREFIX}{attempt}"
        self._packages = packages
        self._lock = -1
        self._entries: tuple[ManifestEntry, ...] = ()
        self._logs: dict[str, LiveLog] = {}
        self._waiting: set[str] = set()

    @as_owner()
    def __enter__(self) -> Staging:
        try:
            make_directories(self.resultdir)  # it was there; somebody may have removed it
            self.path.mkdir(mode=0o700)
        except FileExistsError as error:
            raise ResultError(f"another attempt uses {self.path}") from error
        except OSError as error:
            raise translate(error, self.path) from error
        try:
            self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._remove()
            raise translate(error, self.path) from error
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

    def accept(
        self, listed: Iterable[Listed], logs: Iterable[LiveLog] = ()
    ) -> tuple[ManifestEntry, ...]:
        """Check the node's list; returns the entries to fetch with `file`.

        `logs` are those that grow in place already: they are not staged but verified by
        `publish`, and their missing rest is for the caller to fetch. ResultError for a list
        that is not acceptable, or results that don't fit on the disk.
        """
        self._entries = check_manifest(listed, packages=self._packages)
        self._logs = {log.name: log for log in logs}
        wanted = tuple(entry for entry in self._entries if entry.name not in self._logs)
        check_space(self.path, sum(entry.size_bytes for entry in wanted))
        self._waiting = {entry.name for entry in wanted}
        return wanted

    @contextmanager
    def file(self, entry: ManifestEntry) -> Iterator[StagedFile]:
        """A file to write `entry`'s bytes to. Leaving the block verifies it (ResultError)."""
        if entry.name not in self._waiting:
            raise ResultError(f"{printable(entry.name)} was not accepted, or is here already")
        path = self.path / entry.name
        try:
            with as_owner():
                make_directories(path.parent)
                descriptor = create(path, os.O_WRONLY | os.O_EXCL | os.O_NOFOLLOW)
        except OSError as error:
            raise translate(error, path) from error
        try:
            staged = StagedFile(entry, path, descriptor)
            yield staged
            staged.verify()
        except BaseException:
            with as_owner():
                path.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
        self._waiting.discard(entry.name)

    @as_owner()
    def publish(self, *, replace_earlier: bool = False) -> tuple[Path, ...]:
        """Move everything into place, logs first, marks last; return the paths of all results.

        Nothing is moved unless every result arrived, every live log is whole, and nothing in
        the resultdir stands in the way. `replace_earlier` removes the packages of earlier
        builds: mock's own resultdir lies in the chroot's directory and is emptied with it.
        """
        if self._waiting:
            missing = ", ".join(sorted(printable(name) for name in self._waiting))
            raise ResultError(f"these results did not arrive: {missing}")
        for entry in self._entries:
            if entry.name in self._logs:
                self._logs[entry.name].verify(entry.size_bytes, entry.sha256)
        staged = [entry for entry in self._entries if entry.name not in self._logs]
        for entry in staged:
            self._check_target(entry.name)
        if replace_earlier:
            self._remove_earlier()
        for entry in sorted(staged, key=_order):
            self._move(entry.name)
        descriptor = os.open(self.resultdir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            sync_directory(descriptor)
        finally:
            os.close(descriptor)
        return tuple(self.resultdir / entry.name for entry in self._entries)

    def _check_target(self, name: str) -> None:
        target = self.resultdir / name
        if target.is_dir() and not target.is_symlink():
            raise LocalResultError(f"{target} is a directory", hint="remove or rename it")
        parent = target.parent
        if parent != self.resultdir and (
            parent.is_symlink() or (parent.exists() and not parent.is_dir())
        ):
            raise LocalResultError(
                f"{parent} is not a directory of its own", hint="remove or rename it"
            )

    def _remove_earlier(self) -> None:
        for path in self.resultdir.glob("*.rpm"):
            try:
                path.unlink()
            except OSError as error:
                raise translate(error, path) from error

    def _move(self, name: str) -> None:
        target = self.resultdir / name
        try:
            make_directories(target.parent)
            (self.path / name).replace(target)
        except OSError as error:
            raise translate(error, target) from error

    @as_owner()
    def _remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _order(entry: ManifestEntry) -> tuple[int, str]:
    """Who sees a package sees its logs; who sees the mark of a success sees its packages."""
    last = entry.name.rpartition("/")[2]
    return (2 if last in CHAIN_MARKS else 1 if last.endswith(".rpm") else 0), entry.name


def remove_stale(resultdir: Path) -> list[Path]:
    """Remove staging directories whose process is gone; returns those removed.

    A live attempt holds a lock on its directory.
    """
    removed = []
    for path in resultdir.glob(f"{STAGING_PREFIX}*"):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue  # not a directory, or not ours
        try:
            if os.fstat(descriptor).st_uid != owner_uid():
                continue
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
            removed.append(path)
        except BlockingIOError:
            continue
        finally:
            os.close(descriptor)
    return removed


@dataclass(slots=True)
class PlacedFiles:
    """Results that were published before the job's end.

    By the name of each: its sha256 (hex), its path, and which file that was then.

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
