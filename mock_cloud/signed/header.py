# SPDX-License-Identifier: GPL-2.0-or-later
"""An RPM header blob from an rpmdb: its signed region, found and read strictly.

Layout (rpm's docs/manual/format_header.md): two big-endian 32-bit counts (index entries, data
bytes), the index of 16-byte entries (tag, type, offset, count), the data. The first entry, tag
63 (HEADERIMMUTABLE), points at a 16-byte trailer in the data which tells how many of the
entries belong to the region; its data ends with that trailer. What stands outside ("dribbles":
signatures, install time, file states) was added later and is covered by no signature.

The signed bytes are ``8eade80100000000``, the two counts of the region, its index, its data.
Everything here is hostile: every offset, count and type is checked before use, and no other
exception than HeaderError leaves this module.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final

MAGIC: Final = bytes.fromhex("8eade80100000000")
BLOB_MAX: Final = 64 << 20
"""Bytes of one header; rpm's own bound is 256 MiB, real ones stay below 20 MiB."""
ENTRIES_MAX: Final = 0xFFFF
"""Index entries of one header: rpm's own bound (lib/header.c, hdrchkTags)."""

TAG_IMMUTABLE: Final = 63
TAG_DSAHEADER: Final = 267
TAG_RSAHEADER: Final = 268
TAG_SHA256HEADER: Final = 273
TAG_OPENPGP: Final = 278

INT8, INT16, INT32, INT64, STRING, BIN, STRINGS, I18N = 2, 3, 4, 5, 6, 7, 8, 9
_WIDTH: Final = {1: 1, INT8: 1, INT16: 2, INT32: 4, INT64: 8, BIN: 1}
_FORMAT: Final = {INT8: "B", INT16: "H", INT32: "I", INT64: "Q"}
_ENTRY: Final = struct.Struct(">iIii")
_COUNTS: Final = struct.Struct(">II")
_SIGNATURES_MAX: Final = 16
_SIGNATURE_BYTES_MAX: Final = 1 << 16


class HeaderError(ValueError):
    """The blob is no RPM header of the form described, or a tag in it is not."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An index entry: `end` is where the next entry's data, or the region, begins."""

    type: int
    offset: int
    count: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """A header blob, split. `signed` are the bytes that a signature covers.

    `sha256` (hex) is theirs; `signatures` are raw OpenPGP packets found outside of the region.
    The getters read the signed region only.
    """

    signed: bytes = field(repr=False)
    sha256: str
    signatures: tuple[bytes, ...] = field(repr=False)
    data: bytes = field(repr=False)
    entries: dict[int, Entry] = field(repr=False)

    def string(self, tag: int) -> str | None:
        """A text (also the first of an I18N table), or None if the tag is absent."""
        entry = self.entries.get(tag)
        if entry is None:
            return None
        if entry.type not in (STRING, I18N):
            raise HeaderError(f"tag {tag}: type {entry.type} is not a string")
        return _decode(_strings(self.data, entry, tag)[0])

    def strings(self, tag: int) -> list[str]:
        """The texts of a string array; empty if the tag is absent."""
        entry = self.entries.get(tag)
        if entry is None:
            return []
        if entry.type != STRINGS:
            raise HeaderError(f"tag {tag}: type {entry.type} is not a string array")
        joined = _strings(self.data, entry, tag)
        try:
            return [one.decode() for one in joined]
        except UnicodeDecodeError:
            return [_decode(one) for one in joined]

    def integers(self, tag: int, kind: int) -> tuple[int, ...]:
        """The unsigned integers of a tag of type `kind`; empty if the tag is absent."""
        entry = self.entries.get(tag)
        if entry is None:
            return ()
        if entry.type != kind:
            raise HeaderError(f"tag {tag}: type {entry.type}, not {kind}")
        return struct.unpack_from(f">{entry.count}{_FORMAT[kind]}", self.data, entry.offset)

    def value(self, tag: int) -> tuple[int, tuple[bytes, ...]] | None:
        """A tag's type and its bytes, for comparing: one item for numbers, one a string."""
        entry = self.entries.get(tag)
        if entry is None:
            return None
        if entry.type in (STRING, STRINGS, I18N):
            return entry.type, tuple(_strings(self.data, entry, tag))
        size = _WIDTH[entry.type] * entry.count
        return entry.type, (self.data[entry.offset : entry.offset + size],)


def parse_header(blob: bytes) -> Header:
    """Split an rpmdb blob and check its region's digest. Raises HeaderError.

    SHA256HEADER, where there is one, must agree; it proves nothing, a signature does
    (`packages.verify_package`).
    """
    index, data = _split(blob)
    signed_entries, signed_data = _region(index, data)
    raw_index = blob[8 : 8 + 16 * signed_entries]
    signed = MAGIC + _COUNTS.pack(signed_entries, len(signed_data)) + raw_index + signed_data
    entries = _entries(index[1:signed_entries], len(signed_data) - 16)
    outside = _outside(index[signed_entries:], data)
    sha256 = hashlib.sha256(signed).hexdigest()
    _check_digest(outside, data, sha256)
    return Header(signed, sha256, _signatures(outside, data), signed_data, entries)


def parse_signatures(blob: bytes, header: Header) -> Header:
    """`header`, from a package file, with the signatures of that file's signature header.

    Raises HeaderError, also if its SHA256HEADER is not the header's.
    """
    index, data = _split(blob)
    outside = _outside(index, data)
    _check_digest(outside, data, header.sha256)
    return replace(header, signatures=_signatures(outside, data))


_Index = list[tuple[int, int, int, int]]


def _split(blob: bytes) -> tuple[_Index, bytes]:
    if not 24 <= len(blob) <= BLOB_MAX:
        raise HeaderError(f"a blob of {len(blob)} bytes")
    entry_count, data_size = _COUNTS.unpack_from(blob)
    if not 1 <= entry_count <= ENTRIES_MAX or 8 + 16 * entry_count + data_size != len(blob):
        raise HeaderError("the counts do not add up to the blob's size")
    index = list(_ENTRY.iter_unpack(blob[8 : 8 + 16 * entry_count]))
    return index, blob[8 + 16 * entry_count :]


def _region(index: _Index, data: bytes) -> tuple[int, bytes]:
    """How many entries belong to the immutable region, and its data, trailer included."""
    tag, kind, offset, count = index[0]
    if (tag, kind, count) != (TAG_IMMUTABLE, BIN, 16):
        raise HeaderError("the first entry is not an immutable region")
    if not 0 <= offset <= len(data) - 16:
        raise HeaderError("the region's trailer lies outside of the data")
    tag, kind, back, count = _ENTRY.unpack_from(data, offset)
    if (tag, kind, count) != (TAG_IMMUTABLE, BIN, 16) or back >= 0 or back % 16:
        raise HeaderError("the region's trailer is malformed")
    entries = -back // 16
    if not 2 <= entries <= len(index):
        raise HeaderError("the region has more entries than the header, or none")
    return entries, data[: offset + 16]


def _entries(index: _Index, size: int) -> dict[int, Entry]:
    """The region's entries by tag: known types, inside the data, in order, no overlap."""
    found: dict[int, Entry] = {}
    ends = sorted({offset for _, _, offset, _ in index} | {size})
    following = dict(pairwise(ends))
    for tag, kind, offset, count in index:
        if tag < 100 or tag in found:
            raise HeaderError(f"tag {tag} is reserved or stands twice")
        end = following.get(offset, -1)
        if offset < 0 or end < 0 or end > size:
            raise HeaderError(f"tag {tag}: outside of the region")
        _check_extent(tag, kind, offset, count, end)
        found[tag] = Entry(kind, offset, count, end)
    if len(ends) != len(index) + 1:
        raise HeaderError("two entries share their data")
    return found


def _check_extent(tag: int, kind: int, offset: int, count: int, end: int) -> None:
    if count < 1 or count > BLOB_MAX:
        raise HeaderError(f"tag {tag}: a count of {count}")
    if kind in (STRING, STRINGS, I18N):
        if offset + count > end or (kind == STRING and count != 1):
            raise HeaderError(f"tag {tag}: {count} strings do not fit")
        return
    width = _WIDTH.get(kind)
    if width is None:
        raise HeaderError(f"tag {tag}: unknown type {kind}")
    if offset % width or offset + width * count > end:
        raise HeaderError(f"tag {tag}: {count} values do not fit")


def _strings(data: bytes, entry: Entry, tag: int) -> list[bytes]:
    parts = data[entry.offset : entry.end].split(b"\0", entry.count)
    if len(parts) != entry.count + 1:
        raise HeaderError(f"tag {tag}: a string without an end")
    parts.pop()
    return parts


def _decode(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _outside(index: _Index, data: bytes) -> dict[int, Entry]:
    """The few dribbles that matter: the digest and the signatures. The first one counts."""
    wanted = (TAG_DSAHEADER, TAG_RSAHEADER, TAG_SHA256HEADER, TAG_OPENPGP)
    found: dict[int, Entry] = {}
    for tag, kind, offset, count in index:
        if tag not in wanted:
            continue
        if tag in found:
            raise HeaderError(f"tag {tag} stands twice")
        if not 0 <= offset < len(data):
            raise HeaderError(f"tag {tag}: outside of the data")
        _check_extent(tag, kind, offset, count, len(data))
        found[tag] = Entry(kind, offset, count, len(data))
    return found


def _check_digest(outside: dict[int, Entry], data: bytes, sha256: str) -> None:
    entry = outside.get(TAG_SHA256HEADER)
    if entry is None:
        return
    if entry.type != STRING or data[entry.offset : entry.offset + 65] != sha256.encode() + b"\0":
        raise HeaderError("SHA256HEADER is not the sha256 of the immutable region")


def _signatures(outside: dict[int, Entry], data: bytes) -> tuple[bytes, ...]:
    """Header signatures: OPENPGP (base64, rpm 6), RSAHEADER and DSAHEADER (binary)."""
    found: list[bytes] = []
    for tag in (TAG_RSAHEADER, TAG_DSAHEADER):
        entry = outside.get(tag)
        if entry is not None:
            if entry.type != BIN or entry.count > _SIGNATURE_BYTES_MAX:
                raise HeaderError(f"tag {tag}: not a binary signature")
            found.append(data[entry.offset : entry.offset + entry.count])
    entry = outside.get(TAG_OPENPGP)
    if entry is not None:
        if entry.type != STRINGS or entry.count > _SIGNATURES_MAX:
            raise HeaderError("OPENPGP is not an array of few strings")
        found += [_unbase64(one) for one in _strings(data, entry, TAG_OPENPGP)]
    return tuple(found)


def _unbase64(text: bytes) -> bytes:
    if len(text) > 2 * _SIGNATURE_BYTES_MAX:
        raise HeaderError("OPENPGP: a signature too long")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise HeaderError("OPENPGP: a signature is not base64") from error
