# SPDX-License-Identifier: GPL-2.0-or-later
"""A log that grows in place in the resultdir while the node writes it."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Final

from mock_cloud.errors import ResultDirError, ResultError
from mock_cloud.file_owner import create, make_directories
from mock_cloud.results.disk import translate

# O_NONBLOCK: a FIFO in its place must not block us; it changes nothing for files.
_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
_BLOCK_BYTES: Final = 1 << 20
_HINT: Final = "move it away, or choose another directory with --resultdir"


class LiveLog:
    """One log of one attempt. The same inode throughout, so `tail -f` and Koji follow it.

    Bytes are those of the node, unchanged. `offset` is how many of this attempt's bytes are
    in the file; asking the node for the rest from there on resumes it.
    """

    def __init__(self, name: str, path: Path, descriptor: int) -> None:
        self.name = name
        self.path = path
        self.offset = 0
        self._descriptor = descriptor
        self._digest = hashlib.sha256()

    @classmethod
    def open(cls, directory: Path, name: str, *, append: bool) -> LiveLog:
        """Open or make the log `name`, a checked name below `directory`.

        A link or a special file in its place is ResultDirError.
        """
        path = directory / name
        try:
            if path.parent != directory:
                make_directories(path.parent)
                if path.parent.is_symlink():
                    raise ResultDirError(f"{path.parent} is a link")
            descriptor = create(path, _FLAGS)
        except OSError as error:
            raise ResultDirError(f"cannot write the log {path}: {error.strerror}") from error
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ResultDirError(f"the log {path} is not a regular file")
            if not append:
                os.ftruncate(descriptor, 0)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(name, path, descriptor)

    @classmethod
    def resume(cls, directory: Path, name: str, begin: int) -> LiveLog | None:
        """The log whose first byte of this attempt is at `begin`; None if it is not there so.

        For a process that takes up what another process began. ResultDirError, LocalResultError.
        """
        path = directory / name
        try:
            facts = path.lstat()
        except OSError:
            return None
        if not stat.S_ISREG(facts.st_mode) or facts.st_size < begin:
            return None
        log = cls.open(directory, name, append=True)
        try:
            with path.open("rb") as stream:
                stream.seek(begin)
                while data := stream.read(_BLOCK_BYTES):
                    log._digest.update(data)
                    log.offset += len(data)
        except OSError as error:
            log.close()
            raise translate(error, path) from error
        return log

    @staticmethod
    def check(directory: Path, name: str) -> None:
        """ResultDirError if what is at the log's place could not be written. Changes nothing."""
        path = directory / name
        try:
            descriptor = os.open(path, _FLAGS)
        except FileNotFoundError:
            return
        except OSError as error:
            why = "it is a link" if path.is_symlink() else error.strerror
            raise ResultDirError(f"cannot write the log {path}: {why}", hint=_HINT) from error
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ResultDirError(f"the log {path} is not a regular file", hint=_HINT)
        finally:
            os.close(descriptor)

    @property
    def closed(self) -> bool:
        return self._descriptor < 0

    @property
    def is_in_place(self) -> bool:
        """Whether the file is still what stands at its path: somebody may have removed it."""
        try:
            there = self.path.lstat()
        except OSError:
            return False
        return os.path.samestat(there, os.fstat(self._descriptor))

    def write(self, data: bytes, offset: int | None = None) -> None:
        """Append `data`, which starts at `offset` of the node's log (default: what is next).

        Bytes that are here already are skipped, so a resumed stream may overlap. A gap is a
        ResultError, and so is a full disk.
        """
        start = self.offset if offset is None else offset
        if start > self.offset:
            raise ResultError(f"{self.path}: bytes {self.offset} to {start} are missing")
        fresh = memoryview(data)[self.offset - start :]
        while fresh:
            try:
                written = os.write(self._descriptor, fresh)
            except OSError as error:
                raise translate(error, self.path) from error
            self._digest.update(fresh[:written])
            self.offset += written
            fresh = fresh[written:]

    def verify(self, size_bytes: int, sha256: str) -> None:
        """Raise ResultError unless this attempt's bytes are exactly those described."""
        if self.offset != size_bytes or self._digest.hexdigest() != sha256:
            raise ResultError(
                f"{self.path} holds {self.offset} bytes that are not the {size_bytes} bytes "
                "the node lists",
                hint="build again; the node is damaged, or says now what it did not say before",
            )

    def close(self) -> None:
        """Flush to disk and close. Idempotent."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            try:
                os.fsync(descriptor)
            except OSError as error:
                raise translate(error, self.path) from error
            finally:
                os.close(descriptor)
