# SPDX-License-Identifier: GPL-2.0-or-later
"""Inputs by sha256: ``W/blobs/HEX``, and ``HEX.part`` while one arrives.

A part may have holes: large blobs arrive over several channels at once, each served by an
agent of its own. Only `finish` makes a blob of it, after it checked size and digest.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterable
from typing import Final

from mock_cloud.agent.serve_wire import Failure
from mock_cloud.wire.chunks import Chunk, ChunkIndex, merge, read_at
from mock_cloud.wire.files import digest_of

_BLOCK_MAX_BYTES: Final = 64 * 1024
_RANGES_MAX: Final = 1000


class Blobs:
    """The blobs of one workspace. Digests must have been checked by `serve_wire.hex_digest`."""

    def __init__(self, workspace: str) -> None:
        self._dir = os.path.join(workspace, "blobs")
        self._index: ChunkIndex | None = None
        os.makedirs(self._dir, mode=0o700, exist_ok=True)

    def path(self, digest: str) -> str:
        return os.path.join(self._dir, digest)

    def _part(self, digest: str) -> str:
        return self.path(digest) + ".part"

    def missing(self, digests: list[str]) -> tuple[list[str], dict[str, list[list[int]]]]:
        """(what isn't here, byte ranges [start, end) that a part of it holds).

        A blob that is here is read again: one that no longer has its digest is removed.
        """
        missing: list[str] = []
        partial: dict[str, list[list[int]]] = {}
        for digest in digests:
            if self.is_whole(digest):
                continue
            missing.append(digest)
            held = self._held(digest)
            if held:
                partial[digest] = held
        return missing, partial

    def is_whole(self, digest: str) -> bool:
        """Whether the blob is here; it is read, and removed if it has another digest."""
        path = self.path(digest)
        try:
            if _sha256_of(path) == digest:
                return True
            os.unlink(path)
        except FileNotFoundError:
            pass
        return False

    def _held(self, digest: str) -> list[list[int]]:
        try:
            fd = os.open(self._part(digest), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return []
        try:
            return _ranges(fd)
        finally:
            os.close(fd)

    def put(self, digest: str, size: int, offset: int, data: bytes) -> None:
        """Write `data` at `offset` of the part. On a full disk the part is given up."""
        if offset + len(data) > size:
            raise Failure("bad-request", f"blob {digest[:12]}: bytes past its size")
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            fd = os.open(self._part(digest), flags, 0o600)
            try:
                _pwrite_all(fd, data, offset)
            finally:
                os.close(fd)
        except OSError as error:
            self.discard(digest)
            raise Failure.from_os_error(error, f"blob {digest[:12]}") from error

    def kept_bytes(self) -> int:
        """The size of all blobs that are here."""
        return sum(os.lstat(path).st_size for path in self._newest())

    def reuse(
        self, digest: str, size: int, chunks: list[Chunk], *, fine: bool
    ) -> list[tuple[int, int]]:
        """Put into the part what other blobs have of `chunks`; the ranges that it has got."""
        if self._index is None:
            self._index = ChunkIndex(self._newest())
        held = []
        for chunk in chunks:
            place = self._index.find(chunk, fine=fine)
            if place is None:
                continue
            with contextlib.suppress(OSError):
                data = read_at(*place, chunk.end - chunk.start)
                if len(data) == chunk.end - chunk.start:
                    self.put(digest, size, chunk.start, data)
                    held.append((chunk.start, chunk.end))
        return merge(held)

    def _newest(self) -> list[str]:
        found = [one for one in os.scandir(self._dir) if not one.name.endswith(".part")]
        found.sort(key=lambda one: one.stat(follow_symlinks=False).st_mtime, reverse=True)
        return [one.path for one in found]

    def finish(self, digest: str, size: int) -> None:
        """Make the part the blob. Failure ``digest`` (the part is removed) if it differs."""
        part = self._part(digest)
        if self.is_whole(digest):
            self.discard(digest)
            return
        try:
            if size == 0 or not os.path.lexists(part):
                open(part, "ab").close()
            found_size = os.stat(part, follow_symlinks=False).st_size
            found = _sha256_of(part) if found_size == size else ""
            if found != digest:
                self.discard(digest)
                what = f"sha256 {found}" if found else f"{found_size} of {size} bytes"
                raise Failure("digest", f"blob {digest}: received {what}")
            self._keep(part, digest)
        except OSError as error:
            raise Failure.from_os_error(error, f"blob {digest[:12]}") from error

    def take(self, digest: str, pieces: Iterable[bytes]) -> None:
        """Make the blob of `pieces`, beside a part that may be arriving. Failure ``digest``."""
        path = f"{self.path(digest)}.{os.getpid()}.part"
        found = hashlib.sha256()
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with open(os.open(path, flags, 0o600), "wb") as stream:
                for data in pieces:
                    stream.write(data)
                    found.update(data)
            if found.hexdigest() != digest:
                raise Failure("digest", f"blob {digest}: received sha256 {found.hexdigest()}")
            self._keep(path, digest)
        except OSError as error:
            raise Failure.from_os_error(error, f"blob {digest[:12]}") from error
        finally:
            with contextlib.suppress(OSError):
                os.unlink(path)

    def _keep(self, part: str, digest: str) -> None:
        os.rename(part, self.path(digest))
        self._index = None  # it lacks this one

    def discard(self, digest: str) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self._part(digest))


def _ranges(fd: int) -> list[list[int]]:
    """Where the file has data (lseek(2), SEEK_DATA), without the blocks that border on a hole.

    Such a block may be written in part only. Should the file system know no holes, `finish`
    finds out.
    """
    ranges: list[list[int]] = []
    size, end = os.fstat(fd).st_size, 0
    while end < size and len(ranges) < _RANGES_MAX:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole from here on
                break
            raise
        end = os.lseek(fd, start, os.SEEK_HOLE)
        inner = [
            start + _BLOCK_MAX_BYTES if start else 0,
            end - _BLOCK_MAX_BYTES if end < size else size,
        ]
        if inner[0] < inner[1]:
            ranges.append(inner)
    return ranges


def _pwrite_all(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view = view[written:]
        offset += written


def _sha256_of(path: str) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    with open(fd, "rb", buffering=0) as stream:
        return digest_of(stream)[0]
