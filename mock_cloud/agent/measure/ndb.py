# SPDX-License-Identifier: GPL-2.0-or-later
"""rpm's ndb: the file Packages.db that SUSE's distributions keep package headers in.

Layout (rpm's lib/backend/ndb/rpmpkg.c; all numbers little-endian, 32 bits): a header of 32 bytes
with magic, version, generation and how many pages of 4096 bytes the slots fill; slots of 16
bytes with magic, package number, where its blob is and how much room it has, both in blocks of
16 bytes. A blob is a head of 16 bytes (magic, package number, generation, length), the header,
zeros, and a tail of 12 (an adler32 of all before it, the length again, magic).
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from collections.abc import Iterator
from typing import Final

HEADER_MAX: Final = 256 << 20  # HEADER_DATA_MAX of rpm's lib/header.c

_MAGIC, _SLOT, _BEGIN, _END = (int.from_bytes(one, "little") for one in (
    b"RpmP", b"Slot", b"BlbS", b"BlbE",
))  # fmt: skip
_FILE_HEAD: Final = struct.Struct("<IIII")
_FOUR: Final = struct.Struct("<IIII")
_TAIL: Final = struct.Struct("<III")
_FIRST_SLOT: Final = 32
_PAGE: Final = 4096
_BLOCK: Final = 16


class Malformed(ValueError):
    """The file is no such database, or is damaged."""


def read_blobs(path: str) -> Iterator[bytes]:
    """The header blobs in the file at `path`, by their packages' numbers. Malformed, OSError."""
    with open(path, "rb") as stream:
        if os.fstat(stream.fileno()).st_size < _PAGE:
            raise Malformed("it is shorter than a page")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            for number, at, room in _slots(data):
                yield _blob(data, number, at, room)


def _slots(data: mmap.mmap) -> list[tuple[int, int, int]]:
    """Package number, offset and room in bytes of each blob; no two lie over each other."""
    magic, version, _, pages = _FILE_HEAD.unpack_from(data)
    if (magic, version) != (_MAGIC, 0) or not 0 < pages <= len(data) // _PAGE:
        raise Malformed("its first page is not that of an ndb")
    found = []
    for offset in range(_FIRST_SLOT, pages * _PAGE, _FOUR.size):
        magic, number, block, blocks = _FOUR.unpack_from(data, offset)
        if number:
            found.append((number, block * _BLOCK, blocks * _BLOCK))
        if magic != _SLOT:
            raise Malformed("a slot without its magic")
    end = pages * _PAGE
    for _, at, room in sorted(found, key=lambda slot: slot[1]):
        if at < end or room < _FOUR.size + _TAIL.size:
            raise Malformed("a slot points into another's place")
        end = at + room
    if end > len(data) or len({number for number, _, _ in found}) != len(found):
        raise Malformed("a slot points past the end, or a package stands twice")
    return sorted(found)


def _blob(data: mmap.mmap, number: int, at: int, room: int) -> bytes:
    tail_at = at + room - _TAIL.size
    magic, owner, _, size = _FOUR.unpack_from(data, at)
    checksum, size_again, end = _TAIL.unpack_from(data, tail_at)
    begin = at + _FOUR.size
    if (magic, owner, end) != (_BEGIN, number, _END) or size != size_again:
        raise Malformed(f"the header of package {number} is not there")
    if not 0 < size <= min(HEADER_MAX, tail_at - begin):
        raise Malformed(f"package {number} has no header")
    if zlib.adler32(data[at:tail_at]) != checksum:
        raise Malformed(f"the header of package {number} is damaged")
    return data[begin : begin + size]
