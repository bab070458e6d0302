# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads RPM headers: of package files, and the header blobs of an rpm database.

Format: https://rpm-software-management.github.io/rpm/manual/format_header.html and
format_lead.html of the same manual. Tag numbers are rpm's `rpmtag.h`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO, Final

_LEAD: Final = 96
_LEAD_MAGIC: Final = b"\xed\xab\xee\xdb"
_HEADER_MAGIC: Final = b"\x8e\xad\xe8\x01"
_INDEX_MAX: Final = 0x0000FFFF
_DATA_MAX: Final = 0x0FFFFFFF

NAME: Final = 1000
VERSION: Final = 1001
RELEASE: Final = 1002
EPOCH: Final = 1003
BUILDTIME: Final = 1006
SIZE: Final = 1009
ARCH: Final = 1022
FILEFLAGS: Final = 1037
REQUIREFLAGS: Final = 1048
REQUIRENAME: Final = 1049
REQUIREVERSION: Final = 1050
SOURCEPACKAGE: Final = 1106
BASENAMES: Final = 1117
LONGSIZE: Final = 5009

_SENSE: Final = ((0x02, "<"), (0x04, ">"), (0x08, "="))
_SENSE_RPMLIB: Final = 1 << 24
_FILE_SPEC: Final = 1 << 5
_INTEGERS: Final = {2: "B", 3: "H", 4: "I", 5: "Q"}  # type → struct code, big-endian
_STRING, _BINARY, _STRING_ARRAY, _I18N = 6, 7, 8, 9


class HeaderError(ValueError):
    """The bytes are not an RPM header within sane bounds."""


@dataclass(frozen=True, slots=True)
class Header:
    """One header: `index` maps a tag to (type, offset, count) in `data`."""

    index: dict[int, tuple[int, int, int]]
    data: bytes

    def strings(self, tag: int) -> list[str]:
        """A string or string array tag; empty if it is absent."""
        if tag not in self.index:
            return []
        kind, offset, count = self.index[tag]
        if kind not in (_STRING, _STRING_ARRAY, _I18N):
            raise HeaderError(f"tag {tag} has type {kind}, not a string")
        values = []
        for _ in range(count):
            end = self.data.find(b"\0", offset)
            if end < 0:
                raise HeaderError(f"tag {tag} runs past the header")
            values.append(self.data[offset:end].decode("utf-8", "surrogateescape"))
            offset = end + 1
        return values

    def integers(self, tag: int) -> list[int]:
        """An integer tag of any width; empty if it is absent."""
        if tag not in self.index:
            return []
        kind, offset, count = self.index[tag]
        code = _INTEGERS.get(kind)
        if code is None:
            raise HeaderError(f"tag {tag} has type {kind}, not an integer")
        try:
            return list(struct.unpack_from(f">{count}{code}", self.data, offset))
        except struct.error as error:
            raise HeaderError(f"tag {tag} runs past the header") from error

    def string(self, tag: int) -> str:
        values = self.strings(tag)
        return values[0] if values else ""

    @property
    def is_source(self) -> bool:
        return bool(self.integers(SOURCEPACKAGE))

    @property
    def nevra(self) -> str:
        """NAME-[EPOCH:]VERSION-RELEASE[.ARCH], rpm's ``%{nevra}``."""
        epoch = self.integers(EPOCH)
        version = (f"{epoch[0]}:" if epoch else "") + self.string(VERSION)
        arch = self.string(ARCH)
        tail = f".{arch}" if arch else ""
        return f"{self.string(NAME)}-{version}-{self.string(RELEASE)}{tail}"

    @property
    def size_bytes(self) -> int:
        return (self.integers(LONGSIZE) or self.integers(SIZE) or [0])[0]

    def requirements(self, *, internal: bool = False) -> list[str]:
        """``NAME [<=> VERSION]`` each, sorted, once; rpm's own features only if `internal`."""
        found = set()
        names, versions = self.strings(REQUIRENAME), self.strings(REQUIREVERSION)
        for name, flags, version in zip(names, self.integers(REQUIREFLAGS), versions, strict=True):
            if not internal and (flags & _SENSE_RPMLIB or name.startswith("rpmlib(")):
                continue
            sense = "".join(sign for bit, sign in _SENSE if flags & bit)
            found.add(f"{name} {sense} {version}" if sense and version else name)
        return sorted(found)

    def spec_names(self) -> list[str]:
        """The source package's spec files, by rpm's file flag or else by their name."""
        names = self.strings(BASENAMES)
        flags = self.integers(FILEFLAGS)
        if len(flags) == len(names):
            flagged = [name for name, flag in zip(names, flags, strict=True) if flag & _FILE_SPEC]
            if flagged:
                return flagged
        return [name for name in names if name.endswith(".spec")]


def parse_header(blob: bytes) -> Header:
    """A header without its magic: the form in which an rpm database keeps it."""
    if len(blob) < 8:
        raise HeaderError("the header is cut")
    entries, size = struct.unpack_from(">II", blob)
    start = 8 + 16 * entries
    if not 0 < entries <= _INDEX_MAX or size > _DATA_MAX or len(blob) < start + size:
        raise HeaderError(f"a header with {entries} entries and {size} bytes of data")
    index = {}
    for tag, kind, offset, count in struct.iter_unpack(">IIII", blob[8:start]):
        if offset > size:
            raise HeaderError(f"tag {tag} points past the header")
        index[tag] = (kind, offset, count)
    return Header(index, blob[start : start + size])


def read_package(path: str) -> Header:
    """The main header of the package file at `path`. HeaderError if it is none; OSError."""
    with open(path, "rb") as stream:
        if stream.read(_LEAD)[:4] != _LEAD_MAGIC:
            raise HeaderError(f"{path} is not an RPM package")
        signature = _read_blob(stream)
        stream.read(-len(signature) % 8)  # the signature header is padded to 8 bytes
        return parse_header(_read_blob(stream))


def _read_blob(stream: BinaryIO) -> bytes:
    intro = stream.read(16)
    if len(intro) < 16 or intro[:4] != _HEADER_MAGIC:
        raise HeaderError("no header where one should be")
    entries, size = struct.unpack_from(">II", intro, 8)
    if not 0 < entries <= _INDEX_MAX or size > _DATA_MAX:
        raise HeaderError(f"a header with {entries} entries and {size} bytes of data")
    rest = stream.read(16 * entries + size)
    return intro[8:] + rest
