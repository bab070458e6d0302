# SPDX-License-Identifier: GPL-2.0-or-later
"""RPM's header structure and its tags: an index of entries and data, read as strictly as rpm does.

Layout (rpm's docs/manual/format_header.md): two big-endian 32-bit counts (index entries, data
bytes), the index of 16-byte entries (tag, type, offset, count), the data. The first entry may be
a region: it points at a 16-byte trailer in the data which tells how many of the entries belong
to the region; its data ends with that trailer. What stands outside ("dribbles": install time,
file states, in an rpmdb also the signatures) was added later.

Both ends read headers with this: of package files and of RPM databases, of formats 3, 4 and 6.
All are foreign bytes: every offset, count and type is checked before use (after hdrblobInit of
rpm's lib/header.cc), and no other exception than HeaderError leaves this module.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import field
from enum import IntEnum
from typing import Final

from mock_cloud.wire.dataclass import dataclass


class Type(IntEnum):
    """rpmTagType: what the values of a tag are."""

    CHAR = 1
    INT8 = 2
    INT16 = 3
    INT32 = 4
    INT64 = 5
    STRING = 6
    BIN = 7
    STRING_ARRAY = 8
    I18NSTRING = 9


class SignatureTag(IntEnum):
    """Tags of a package file's signature header; some numbers mean something else in a header.

    Format 6 has none above 999.
    """

    HEADERSIGNATURES = 62
    LONGSIZE = 270
    SIZE = 1000
    PGP = 1002
    GPG = 1005


class Tag(IntEnum):
    """Tags of headers: those that are read, and those that `compare` calls by their name."""

    HEADERIMAGE = 61
    HEADERSIGNATURES = 62
    HEADERIMMUTABLE = 63
    DSAHEADER = 267
    RSAHEADER = 268
    SIGMD5 = 261
    SHA256HEADER = 273
    OPENPGP = 278
    SHA3_256HEADER = 279
    NAME = 1000
    VERSION = 1001
    RELEASE = 1002
    EPOCH = 1003
    SUMMARY = 1004
    DESCRIPTION = 1005
    BUILDTIME = 1006
    BUILDHOST = 1007
    SIZE = 1009
    DISTRIBUTION = 1010
    VENDOR = 1011
    LICENSE = 1014
    PACKAGER = 1015
    GROUP = 1016
    URL = 1020
    OS = 1021
    ARCH = 1022
    PREIN = 1023
    POSTIN = 1024
    PREUN = 1025
    POSTUN = 1026
    OLDFILENAMES = 1027
    FILESIZES = 1028
    FILEMODES = 1030
    FILERDEVS = 1033
    FILEMTIMES = 1034
    FILEDIGESTS = 1035
    FILELINKTOS = 1036
    FILEFLAGS = 1037
    FILEUSERNAME = 1039
    FILEGROUPNAME = 1040
    SOURCERPM = 1044
    FILEVERIFYFLAGS = 1045
    PROVIDENAME = 1047
    REQUIREFLAGS = 1048
    REQUIRENAME = 1049
    REQUIREVERSION = 1050
    RPMVERSION = 1064
    TRIGGERSCRIPTS = 1065
    CHANGELOGTIME = 1080
    CHANGELOGNAME = 1081
    CHANGELOGTEXT = 1082
    COOKIE = 1094
    FILEDEVICES = 1095
    FILEINODES = 1096
    FILELANGS = 1097
    SOURCEPACKAGE = 1106
    PROVIDEVERSION = 1113
    DIRINDEXES = 1116
    BASENAMES = 1117
    DIRNAMES = 1118
    OPTFLAGS = 1122
    DISTURL = 1123
    PAYLOADFORMAT = 1124
    PAYLOADCOMPRESSOR = 1125
    PAYLOADFLAGS = 1126
    PLATFORM = 1132
    FILECOLORS = 1140
    FILECLASS = 1141
    CLASSDICT = 1142
    SOURCESIGMD5 = 1146
    DISTTAG = 1155
    LONGFILESIZES = 5008
    LONGSIZE = 5009
    FILECAPS = 5010
    FILEDIGESTALGO = 5011
    BUGURL = 5012
    VCS = 5034
    ENCODING = 5062
    PAYLOADSHA256 = 5092
    PAYLOADSHA256ALGO = 5093
    PAYLOADSHA256ALT = 5097
    TRANSLATIONURL = 5100
    UPSTREAMRELEASES = 5101
    PAYLOADSIZE = 5112
    PAYLOADSIZEALT = 5113
    RPMFORMAT = 5114
    PAYLOADSHA512 = 5121
    PAYLOADSHA512ALT = 5122
    PAYLOADSHA3_256 = 5123
    PAYLOADSHA3_256ALT = 5124


MAGIC: Final = bytes.fromhex("8eade80100000000")
BLOB_MAX: Final = 32 << 20
"""Bytes of one header; rpm's own bound is 256 MiB, real ones stay below 20 MiB."""
ENTRIES_MAX: Final = 0xFFFF
"""Index entries of one header: rpm's own bound (HEADER_TAGS_MAX)."""
COUNTS: Final = struct.Struct(">II")

_ENTRY: Final = struct.Struct(">iIii")
_WIDTH: Final[Mapping[int, int]] = {
    Type.CHAR: 1,
    Type.INT8: 1,
    Type.INT16: 2,
    Type.INT32: 4,
    Type.INT64: 8,
    Type.STRING: 1,
    Type.BIN: 1,
    Type.STRING_ARRAY: 1,
    Type.I18NSTRING: 1,
}
"""Bytes of a value, of a text the least that it can have; also how it is aligned."""
_FORMAT: Final[Mapping[int, str]] = {
    Type.INT8: "B",
    Type.INT16: "H",
    Type.INT32: "I",
    Type.INT64: "Q",
}
Index = list[tuple[int, int, int, int]]
"""Tag, type, offset and count of each entry, as they stand there."""
_TEXTS: Final = (Type.STRING, Type.STRING_ARRAY, Type.I18NSTRING)


class HeaderError(ValueError):
    """The bytes are no RPM header of the form described, or a tag in it is not."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A checked index entry: `end` is where the next entry's data begins, or the region ends.

    Data reaches up to there, but for the `gap` in bytes that the next entry's alignment needs.
    """

    type: int
    offset: int
    count: int
    end: int
    gap: int


@dataclass(frozen=True, slots=True)
class Header:
    """Some of a header's entries by their tag, and the data that they lie in."""

    data: bytes = field(repr=False)
    entries: Mapping[int, Entry] = field(repr=False)

    def string(self, tag: int) -> str | None:
        """A text (also the first of an I18N table), or None if the tag is absent."""
        entry = self._entry(tag, Type.STRING, Type.I18NSTRING)
        return None if entry is None else _decode(self._texts(tag, entry)[0])

    def strings(self, tag: int) -> list[str]:
        """The texts of a string array; empty if the tag is absent."""
        entry = self._entry(tag, Type.STRING_ARRAY)
        if entry is None:
            return []
        found = self._texts(tag, entry)
        try:
            return [one.decode() for one in found]
        except UnicodeDecodeError:
            return [_decode(one) for one in found]

    def binary(self, tag: int) -> bytes | None:
        """The bytes of a binary tag, or None if it is absent."""
        entry = self._entry(tag, Type.BIN)
        return None if entry is None else self.data[entry.offset : entry.offset + entry.count]

    def integers(self, tag: int, kind: int) -> tuple[int, ...]:
        """The unsigned integers of a tag of type `kind`; empty if the tag is absent."""
        entry = self._entry(tag, kind)
        if entry is None:
            return ()
        return struct.unpack_from(f">{entry.count}{_FORMAT[kind]}", self.data, entry.offset)

    def value(self, tag: int) -> tuple[int, tuple[bytes, ...]] | None:
        """A tag's type and its bytes, for comparing: one item for numbers, one a string."""
        entry = self.entries.get(tag)
        if entry is None:
            return None
        if entry.type in _TEXTS:
            return entry.type, tuple(self._texts(tag, entry))
        size = _WIDTH[entry.type] * entry.count
        return entry.type, (self.data[entry.offset : entry.offset + size],)

    def _entry(self, tag: int, *kinds: int) -> Entry | None:
        entry = self.entries.get(tag)
        if entry is not None and entry.type not in kinds:
            raise HeaderError(f"tag {tag}: type {entry.type}, not {kinds[0]}")
        return entry

    def _texts(self, tag: int, entry: Entry) -> list[bytes]:
        parts = self.data[entry.offset : entry.end].split(b"\0", entry.count)
        if len(parts) != entry.count + 1 or len(parts.pop()) > entry.gap:
            raise HeaderError(f"tag {tag}: its strings do not fill their place")
        return parts


@dataclass(frozen=True, slots=True)
class SplitHeader:
    """A header structure, split: its region is the first of its entries and bytes, if it has one.

    Both counts are 0 without a region, as in format 3.
    """

    index: Index = field(repr=False)
    data: bytes = field(repr=False)
    region_entries: int
    region_bytes: int

    @property
    def region(self) -> Header:
        """What stands in the region; without one, everything."""
        if not self.region_entries:
            return Header(self.data, _check_entries(self.index, 0, len(self.data)))
        data = self.data[: self.region_bytes]
        index = self.index[1 : self.region_entries]
        return Header(data, _check_entries(index, 0, len(data) - _ENTRY.size))

    @property
    def image(self) -> bytes:
        """The region as a header of its own, magic included: what digests and signatures cover."""
        index = b"".join(_ENTRY.pack(*one) for one in self.index[: self.region_entries])
        counts = COUNTS.pack(self.region_entries, self.region_bytes)
        return MAGIC + counts + index + self.data[: self.region_bytes]

    @property
    def outside(self) -> Header:
        """What was added to a header that has a region."""
        index = self.index[self.region_entries :] if self.region_entries else []
        return Header(self.data, _check_entries(index, self.region_bytes, len(self.data)))


def split(blob: bytes) -> SplitHeader:
    """The header structure `blob`, without its magic: the form in which a database keeps it."""
    if not COUNTS.size + _ENTRY.size <= len(blob) <= BLOB_MAX:
        raise HeaderError(f"a header of {len(blob)} bytes")
    count, size = COUNTS.unpack_from(blob)
    start = COUNTS.size + _ENTRY.size * count
    if not 1 <= count <= ENTRIES_MAX or start + size != len(blob):
        raise HeaderError("the counts do not add up to the header's size")
    index = list(_ENTRY.iter_unpack(blob[COUNTS.size : start]))
    data = blob[start:]
    return SplitHeader(index, data, *_find_region(index, data))


def _find_region(index: Index, data: bytes) -> tuple[int, int]:
    """How many entries and bytes belong to the region, its own and the trailer included."""
    tag, kind, offset, count = index[0]
    if tag not in (Tag.HEADERIMAGE, Tag.HEADERSIGNATURES, Tag.HEADERIMMUTABLE):
        return 0, 0
    if (kind, count) != (Type.BIN, _ENTRY.size):
        raise HeaderError("the region's entry is malformed")
    if not 0 <= offset <= len(data) - _ENTRY.size:
        raise HeaderError("the region's trailer lies outside of the data")
    trailer, kind, back, count = _ENTRY.unpack_from(data, offset)
    if (tag, trailer) == (Tag.HEADERSIGNATURES, Tag.HEADERIMAGE):
        trailer = tag  # some old packages: rpm's hdrblobVerifyRegion knows them too
    if (trailer, kind, count) != (tag, Type.BIN, _ENTRY.size) or back >= 0 or back % _ENTRY.size:
        raise HeaderError("the region's trailer is malformed")
    entries = -back // _ENTRY.size
    if not 2 <= entries <= len(index):
        raise HeaderError("the region has more entries than the header, or none")
    return entries, offset + _ENTRY.size


def _check_entries(index: Index, start: int, size: int) -> dict[int, Entry]:
    """Entries by tag: of known types, one after the other in the data from `start` to `size`."""
    found: dict[int, Entry] = {}
    following = [*index[1:], (0, Type.BIN, size, 0)]
    for (tag, kind, offset, count), (_, next_kind, end, _) in zip(index, following, strict=False):
        if tag < 100 or tag in found:
            raise HeaderError(f"tag {tag} is reserved or stands twice")
        if not start <= offset < end <= size or (not found and offset - start >= _width(kind)):
            raise HeaderError(f"tag {tag}: outside of the data, or not in order")
        width = _width(kind)
        gap = _width(next_kind) - 1
        if count < 1 or offset % width or offset + width * count > end:
            raise HeaderError(f"tag {tag}: {count} values of type {kind} do not fit")
        if kind not in _TEXTS and end - offset - width * count > gap:
            raise HeaderError(f"tag {tag}: {count} values do not fill their place")
        if kind == Type.STRING and count != 1:
            raise HeaderError(f"tag {tag}: {count} single strings")
        found[tag] = Entry(kind, offset, count, end, gap)
    return found


def _width(kind: int) -> int:
    if kind not in _WIDTH:
        raise HeaderError(f"unknown type {kind}")
    return _WIDTH[kind]


def _decode(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")
