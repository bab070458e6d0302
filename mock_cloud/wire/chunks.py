# SPDX-License-Identifier: GPL-2.0-or-later
"""What two files have in common, found without sending either: chunks cut by their content.

A file is cut behind marks, patterns of bytes in it, so that what is inserted or changed moves the
chunks behind it and changes its own alone. Both ends cut alike and compare digests: of coarse
chunks first, then of the fine ones of those that differ. Compressed data has a mark wherever
chance puts one; what has none is cut by its length. A digest here only finds candidates: what is
put together of them is compared with the sha256 of the whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Final

from mock_cloud.wire.dataclass import dataclass

WORTH_BYTES: Final = 1 << 20
"""Smaller files are sent as they are."""

_BLOCK_BYTES: Final = 1 << 20
_INDEXED_MAX_BYTES: Final = 1 << 30
_DIGEST_BYTES: Final = 16
_RECORD: Final = struct.Struct(f">QI{_DIGEST_BYTES}s")


@dataclass(frozen=True, slots=True)
class Grain:
    """How a file is cut: behind a mark, between `least` and `most` bytes after the last cut."""

    mark: re.Pattern[bytes]
    least: int
    most: int


# Of random bytes, one in 2^18 and in 2^12 ends such a mark.
COARSE: Final = Grain(re.compile(rb"[\x00-\x03][\x00-\x0f]\xa7"), 1 << 15, 1 << 21)
FINE: Final = Grain(re.compile(rb"[\x00-\x0f]\xa7"), 1 << 9, 1 << 15)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes [start, end) of a file, and the beginning of their sha256."""

    start: int
    end: int
    digest: bytes


def coarse_chunks(stream: IO[bytes]) -> Iterator[tuple[Chunk, bytes]]:
    """All of a file, from where `stream` is, with the chunks' bytes. OSError."""
    data, base = b"", 0
    while block := stream.read(_BLOCK_BYTES):
        data += block
        at = 0
        while end := _find_end(data, at, COARSE):
            yield _chunk(base + at, data[at:end])
            at = end
        base, data = base + at, data[at:]
    if data:
        yield _chunk(base, data)


def fine_chunks(base: int, data: bytes) -> Iterator[tuple[Chunk, bytes]]:
    """A coarse chunk, which begins at `base` of its file, in fine ones."""
    at = 0
    while at < len(data):
        end = _find_end(data, at, FINE) or len(data)
        yield _chunk(base + at, data[at:end])
        at = end


def _find_end(data: bytes, at: int, grain: Grain) -> int:
    """Where the chunk ends that begins at `at`; 0 if that depends on what follows `data`."""
    longest = at + grain.most
    found = grain.mark.search(data, at + grain.least, longest)
    if found:
        return found.end()
    return longest if longest <= len(data) else 0


def _chunk(start: int, data: bytes) -> tuple[Chunk, bytes]:
    digest = hashlib.sha256(data).digest()[:_DIGEST_BYTES]
    return Chunk(start, start + len(data), digest), data


def pack_chunks(chunks: Iterable[Chunk]) -> bytes:
    return b"".join(_RECORD.pack(one.start, one.end - one.start, one.digest) for one in chunks)


def unpack_chunks(body: bytes, size: int) -> list[Chunk]:
    """ValueError for what is no list of chunks of a file of `size` bytes, in order."""
    if len(body) % _RECORD.size:
        raise ValueError("a list of chunks that is cut off")
    chunks, last = [], 0
    for start, length, digest in _RECORD.iter_unpack(body):
        if not last <= start < start + length <= size or length > COARSE.most:
            raise ValueError("chunks that are not in order, or beyond the file")
        last = start + length
        chunks.append(Chunk(start, last, digest))
    return chunks


def merge(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same bytes in as few ascending ranges as can be."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


class ChunkIndex:
    """Where chunks lie in files that are here: of `paths` the first ones, up to 1 GiB."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = paths
        self._places: dict[bool, dict[bytes, tuple[str, int]]] = {}

    def find(self, chunk: Chunk, *, fine: bool) -> tuple[str, int] | None:
        """A file and an offset in it where the chunk's bytes were when it was looked at."""
        if fine not in self._places:
            self._places[fine] = self._read(fine=fine)
        return self._places[fine].get(chunk.digest)

    def _read(self, *, fine: bool) -> dict[bytes, tuple[str, int]]:
        places: dict[bytes, tuple[str, int]] = {}
        left = _INDEXED_MAX_BYTES
        for path in self._paths:
            with contextlib.suppress(OSError), open_plain(path) as stream:
                left -= os.fstat(stream.fileno()).st_size
                if left < 0:
                    break
                for coarse, data in coarse_chunks(stream):
                    cut = fine_chunks(coarse.start, data) if fine else ((coarse, data),)
                    for chunk, _ in cut:
                        places.setdefault(chunk.digest, (path, chunk.start))
        return places


def open_plain(path: str) -> IO[bytes]:
    """A regular file, not through a link, open to be read. OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path} is no regular file")
    return open(descriptor, "rb")


def read_at(path: str, offset: int, size: int) -> bytes:
    """Bytes of a file; fewer where it ends. OSError."""
    with open_plain(path) as stream:
        return os.pread(stream.fileno(), size, offset)
