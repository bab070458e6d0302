# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether two package files are the same build: level L1.

The levels: L0 the same file; L1 the same payload and the same immutable header but for what
differs between any two builds (`VOLATILE_TAGS`). Nothing is believed that a header says of its
payload: both payloads are read.
"""

from __future__ import annotations

import bz2
import hashlib
import lzma
import re
import sys
import zlib
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from mock_cloud.signed.rpmfile import read_unverified
from mock_cloud.wire.rpmfile import CPIO_MAGIC
from mock_cloud.wire.rpmheader import Header, HeaderError
from mock_cloud.wire.rpmtags import Tag

if sys.version_info >= (3, 14):
    from compression import zstd

VOLATILE_TAGS: Final[Mapping[Tag, str]] = {
    Tag.BUILDTIME: "when it was built, unless use_source_date_epoch_as_buildtime is set",
    Tag.BUILDHOST: "where it was built, unless _buildhost is set",
    Tag.FILEMTIMES: "when the build wrote a file, unless mtimes are clamped to SOURCE_DATE_EPOCH",
    Tag.COOKIE: "build host and time once more",
    Tag.SOURCESIGMD5: "digest of the source package, which has a build time itself",
    Tag.PAYLOADSHA256: "over mtimes too; the payloads themselves are compared",
    Tag.PAYLOADSHA256ALT: "the same, uncompressed",
    Tag.PAYLOADSIZE: "of the payload as it is compressed; the payloads themselves are compared",
    Tag.PAYLOADSHA512: "as PAYLOADSHA256",
    Tag.PAYLOADSHA512ALT: "as PAYLOADSHA256ALT",
    Tag.PAYLOADSHA3_256: "as PAYLOADSHA256",
    Tag.PAYLOADSHA3_256ALT: "as PAYLOADSHA256ALT",
}
"""Tag → why two builds of one source differ in it.

Signatures and the digests of header and payload (SIGMD5, SHA1HEADER, SHA256HEADER, …) stand
outside of the immutable header.
"""

PAYLOAD_MAX: Final = 4 << 30
"""Bytes of an unpacked payload; more is refused."""

_NEWC: Final = b"070701"
_HEX: Final = re.compile(rb"[0-9A-Fa-f]{8}")
_NEWC_BYTES: Final = 110


def find_differences(left: bytes, right: bytes) -> tuple[str, ...]:
    """What keeps the package files `left` and `right` from agreeing at L1; empty if they do.

    Tag names and numbers in order, then the payload. HeaderError if one is no package file.
    """
    (ours, payload), (theirs, other) = read_unverified(left), read_unverified(right)
    found = [
        _named(tag)
        for tag in sorted(ours.entries.keys() | theirs.entries.keys())
        if _differ(ours, theirs, tag)
    ]
    if payload != other:
        found += _payload_difference(ours, payload, theirs, other)
    return tuple(found)


def _differ(left: Header, right: Header, tag: int) -> bool:
    return tag not in VOLATILE_TAGS and left.value(tag) != right.value(tag)


def _named(tag: int) -> str:
    try:
        return f"{Tag(tag).name} ({tag})"
    except ValueError:
        return f"tag {tag}"


def _payload_difference(left: Header, mine: bytes, right: Header, other: bytes) -> list[str]:
    compressors = {_compressor(left, mine), _compressor(right, other)}
    unknown = sorted(compressors - _INFLATERS.keys())
    if unknown:
        return [f"payload: it differs, and Python here cannot look into {', '.join(unknown)}"]
    same = _content_digest(left, mine) == _content_digest(right, other)
    return [] if same else ["payload"]


def _compressor(header: Header, payload: bytes) -> str:
    """What the payload is packed with: rpm's gzip, the default, passes plain data through."""
    plain = payload.startswith(CPIO_MAGIC)
    return "" if plain else header.string(Tag.PAYLOADCOMPRESSOR) or "gzip"


def _content_digest(header: Header, payload: bytes) -> bytes:
    """sha256 of the unpacked payload with the mtimes in it blanked.

    Format 6, and files over 4 GiB, are stored without metadata.
    """
    inflater = _INFLATERS[_compressor(header, payload)]()
    try:
        data = memoryview(_inflate(inflater, payload))
    except _DAMAGED as error:
        raise HeaderError(f"the payload cannot be unpacked: {error}") from error
    total = hashlib.sha256()
    at = 0
    while bytes(data[at : at + 6]) == _NEWC:
        size, name = (_hex(data, at + place) for place in (54, 94))
        end = at + -(-(_NEWC_BYTES + name) // 4) * 4
        total.update(data[at : at + 46])
        total.update(data[at + 54 : end])  # without the mtime
        at = min(end + -(-size // 4) * 4, len(data))
        total.update(data[end:at])
    total.update(data[at:])
    return total.digest()


def _hex(data: memoryview, at: int) -> int:
    digits = bytes(data[at : at + 8])
    if not _HEX.fullmatch(digits):
        raise HeaderError("the payload is no cpio archive")
    return int(digits, 16)


class _Inflater(Protocol):
    """What zlib, lzma, bz2 and zstd have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def _inflate(inflater: _Inflater, data: bytes) -> bytes:
    unpacked = inflater.decompress(data, PAYLOAD_MAX)
    if not inflater.eof or inflater.unused_data:
        raise ValueError(f"it does not end where it should, or is over {PAYLOAD_MAX} bytes")
    return unpacked


class _Plain:
    """A payload that is not compressed."""

    eof = True
    unused_data = b""

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        if len(data) > max_length:
            raise ValueError(f"it is over {max_length} bytes")
        return data


_INFLATERS: Final[dict[str, Callable[[], _Inflater]]] = {
    "": _Plain,
    "gzip": lambda: zlib.decompressobj(31),
    "xz": lzma.LZMADecompressor,
    "lzma": lzma.LZMADecompressor,
    "bzip2": bz2.BZ2Decompressor,
}
_DAMAGED: tuple[type[Exception], ...] = (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error)
if sys.version_info >= (3, 14):
    _INFLATERS["zstd"] = zstd.ZstdDecompressor
    _DAMAGED += (zstd.ZstdError,)
