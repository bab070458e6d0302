# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads just enough of an RPM file to know whether it is a source package, and which.

The format is rpm's: a 96-byte lead, the signature header padded to 8 bytes, the header, the
payload (rpm's docs/manual/format_v4.md). Every length is bounded before it is used.
"""

from __future__ import annotations

import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from mock_cloud.errors import InputError
from mock_cloud.invocation.names import printable

LEAD_SIZE: Final = 96
LEAD_MAGIC: Final = b"\xed\xab\xee\xdb"
HEADER_MAGIC: Final = b"\x8e\xad\xe8\x01"
TAGS_MAX: Final = 0xFFFF  # rpm's own bound on the number of index entries
DATA_MAX: Final = 64 << 20  # bytes; rpm's own bound is 256 MiB

# Tag numbers from rpm's include/rpm/rpmtag.h.
SIG_LONGSIZE: Final = 270
SIG_SIZE: Final = 1000
TAG_NAME: Final = 1000
TAG_VERSION: Final = 1001
TAG_RELEASE: Final = 1002
TAG_ARCH: Final = 1022
TAG_SOURCERPM: Final = 1044
TAG_SOURCEPACKAGE: Final = 1106

_INT32: Final = 4
_INT64: Final = 5
_STRING: Final = 6
_LEAD_SOURCE: Final = 1

# What rpmbuild itself accepts in these tags (rpm's build/parsePreamble.c), + for %{…} none.
_SANE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+~^-]*")


class SrpmError(InputError):
    """The file is no usable package. mock's exit code for it is 1."""

    exit_code = 1


class TruncatedSrpm(SrpmError):
    """The file ends early. mock notices when it installs it: exit code 40."""

    exit_code = 40


@dataclass(frozen=True, slots=True)
class PackageFacts:
    """What a package's header says. `source` tells a source package from a binary one."""

    name: str
    version: str
    release: str
    arch: str
    source: bool
    size_bytes: int

    @property
    def nvr(self) -> str:
        return f"{self.name}-{self.version}-{self.release}"


def read_package(path: Path) -> PackageFacts:
    """The facts of the RPM file at `path`.

    Raises SrpmError in one line for anything but a whole RPM with a sane name, version,
    release and architecture. The payload is not read; digests are left to rpm.
    """
    shown = printable(str(path))
    try:
        with path.open("rb") as stream:
            return _read(stream, shown)
    except OSError as error:
        raise SrpmError(f"cannot read {shown}: {error.strerror}") from error


def _read(stream: BinaryIO, shown: str) -> PackageFacts:
    size_bytes = os.fstat(stream.fileno()).st_size
    lead = stream.read(LEAD_SIZE)
    if len(lead) < LEAD_SIZE or lead[:4] != LEAD_MAGIC:
        raise SrpmError(f"{shown} is not an RPM package", hint="its first bytes are not an RPM's")
    signature = _read_header(stream, shown, "signature")
    stream.seek(-stream.tell() % 8, os.SEEK_CUR)
    start = stream.tell()
    header = _read_header(stream, shown, "header")
    expected = signature.get(SIG_LONGSIZE, signature.get(SIG_SIZE))
    if isinstance(expected, int) and start + expected > size_bytes:
        raise TruncatedSrpm(
            f"{shown} is truncated: {size_bytes} of {start + expected} bytes",
            hint="copy or download it again",
        )
    texts = {
        word: _sane(header.get(tag), word, shown)
        for word, tag in (
            ("name", TAG_NAME),
            ("version", TAG_VERSION),
            ("release", TAG_RELEASE),
            ("arch", TAG_ARCH),
        )
    }
    source = bool(header.get(TAG_SOURCEPACKAGE)) or (
        lead[7] == _LEAD_SOURCE and TAG_SOURCERPM not in header
    )
    return PackageFacts(**texts, source=source, size_bytes=size_bytes)


def _sane(value: object, word: str, shown: str) -> str:
    if not isinstance(value, str):
        raise SrpmError(f"{shown} has no {word} in its header")
    if len(value) > 255 or not _SANE.fullmatch(value):
        raise SrpmError(f"{shown}: the header's {word} {printable(value[:80])!r} is refused")
    return value


def _read_header(stream: BinaryIO, shown: str, what: str) -> dict[int, int | str]:
    """Integer and string entries of one header structure, by tag; other types are skipped."""
    intro = stream.read(16)
    if len(intro) < 16 or intro[:4] != HEADER_MAGIC:
        raise SrpmError(f"{shown} has no valid RPM {what}")
    count, data_size = struct.unpack(">II", intro[8:])
    if count > TAGS_MAX or data_size > DATA_MAX:
        raise SrpmError(f"{shown}: the RPM {what} is too large")
    index = stream.read(count * 16)
    data = stream.read(data_size)
    if len(index) < count * 16 or len(data) < data_size:
        raise TruncatedSrpm(f"{shown} is truncated in its {what}", hint="copy or download it again")
    found: dict[int, int | str] = {}
    for tag, kind, offset, _ in struct.iter_unpack(">IIII", index):
        value = _entry(data, kind, offset)
        if value is not None:
            found.setdefault(tag, value)
    return found


def _entry(data: bytes, kind: int, offset: int) -> int | str | None:
    if kind == _STRING:
        end = data.find(b"\0", offset)
        return data[offset:end].decode("utf-8", "surrogateescape") if end >= offset else None
    for wanted, form in ((_INT32, ">I"), (_INT64, ">Q")):
        if kind == wanted and offset + struct.calcsize(form) <= len(data):
            number: int = struct.unpack_from(form, data, offset)[0]
            return number
    return None
