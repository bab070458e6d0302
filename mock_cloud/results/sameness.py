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
import zlib
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from mock_cloud.signed.header import Header, HeaderError
from mock_cloud.signed.rpmfile import read_unverified

VOLATILE_TAGS: Final[Mapping[int, str]] = {
    1006: "BUILDTIME: when it was built, unless use_source_date_epoch_as_buildtime is set",
    1007: "BUILDHOST: where it was built, unless _buildhost is set",
    1034: "FILEMTIMES: when the build wrote a file, unless mtimes are clamped to SOURCE_DATE_EPOCH",
    1094: "COOKIE: build host and time once more",
    1146: "SOURCEPKGID: digest of the source package, which has a build time itself",
    5092: "PAYLOADDIGEST: over mtimes too; the payloads themselves are compared",
    5097: "PAYLOADDIGESTALT: the same, uncompressed",
}
"""Tag → what it is and why two builds of one source differ in it.

Signatures and the digests of header and payload (SIGMD5, SHA1HEADER, SHA256HEADER, …) stand
outside of the immutable header. The numbers are those of rpm's include/rpm/rpmtag.h.
"""

PAYLOAD_MAX: Final = 4 << 30
"""Bytes of an unpacked payload; more is refused."""

_NAMES: Final = {
    1000: "NAME", 1001: "VERSION", 1002: "RELEASE", 1004: "SUMMARY", 1005: "DESCRIPTION",
    1009: "SIZE", 1021: "OS", 1022: "ARCH", 1023: "PREIN", 1024: "POSTIN", 1025: "PREUN",
    1026: "POSTUN", 1028: "FILESIZES", 1030: "FILEMODES", 1035: "FILEDIGESTS",
    1036: "FILELINKTOS", 1037: "FILEFLAGS", 1039: "FILEUSERNAME", 1040: "FILEGROUPNAME",
    1047: "PROVIDENAME", 1049: "REQUIRENAME", 1064: "RPMVERSION", 1065: "TRIGGERSCRIPTS",
    1080: "CHANGELOGTIME", 1082: "CHANGELOGTEXT", 1095: "FILEDEVICES", 1096: "FILEINODES",
    1113: "PROVIDEVERSION", 1117: "BASENAMES", 1118: "DIRNAMES", 1122: "OPTFLAGS",
    1132: "PLATFORM", 1140: "FILECOLORS", 5010: "FILECAPS", 5034: "BUGURL",
}  # fmt: skip
_COMPRESSOR: Final = 1125
_NEWC: Final = b"070701"
_NEWC_BYTES: Final = 110


def find_differences(left: bytes, right: bytes) -> tuple[str, ...]:
    """What keeps the package files `left` and `right` from agreeing at L1; empty if they do.

    Tag names and numbers in order, then the payload. HeaderError if one is no package file.
    """
    (ours, payload), (theirs, other) = read_unverified(left), read_unverified(right)
    found = [
        _named(tag) for tag in sorted(ours.entries | theirs.entries) if _differ(ours, theirs, tag)
    ]
    if payload != other:
        found += _payload_difference(ours, payload, theirs, other)
    return tuple(found)


def _differ(left: Header, right: Header, tag: int) -> bool:
    return tag not in VOLATILE_TAGS and left.value(tag) != right.value(tag)


def _named(tag: int) -> str:
    return f"{_NAMES[tag]} ({tag})" if tag in _NAMES else f"tag {tag}"


def _payload_difference(left: Header, mine: bytes, right: Header, other: bytes) -> list[str]:
    compressors = {header.string(_COMPRESSOR) or "gzip" for header in (left, right)}
    unknown = sorted(compressors - _INFLATERS.keys())
    if unknown:
        return [f"payload: it differs, and Python here cannot look into {', '.join(unknown)}"]
    same = _content_digest(left, mine) == _content_digest(right, other)
    return [] if same else ["payload"]


def _content_digest(header: Header, payload: bytes) -> bytes:
    """sha256 of the unpacked payload with the mtimes in it blanked."""
    inflater = _INFLATERS[header.string(_COMPRESSOR) or "gzip"]()
    try:
        data = memoryview(_inflate(inflater, payload))
    except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error) as error:
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
    total.update(data[at:])  # files over 4 GiB are stored without metadata
    return total.digest()


def _hex(data: memoryview, at: int) -> int:
    try:
        return int(bytes(data[at : at + 8]), 16)
    except ValueError as error:
        raise HeaderError("the payload is no cpio archive") from error


class _Inflater(Protocol):
    """What zlib, lzma and bz2 have in common."""

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


_INFLATERS: Final[Mapping[str, Callable[[], _Inflater]]] = {
    "gzip": lambda: zlib.decompressobj(31),
    "xz": lzma.LZMADecompressor,
    "lzma": lzma.LZMADecompressor,
    "bzip2": bz2.BZ2Decompressor,
}
