# SPDX-License-Identifier: GPL-2.0-or-later
"""A package file of RPM, read up to its payload, and what its header says of the package.

Layout (rpm's docs/manual/format_v4.md and format_v6.md): a lead of 96 bytes, the signature header
padded to 8 bytes, the header, the payload. Nothing is verified here.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import field
from typing import BinaryIO, Final

from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.files import digest_of
from mock_cloud.wire.rpmheader import (
    BLOB_MAX,
    COUNTS,
    ENTRIES_MAX,
    MAGIC,
    Header,
    HeaderError,
    SignatureTag,
    SplitHeader,
    Tag,
    Type,
    split,
)

_LEAD_BYTES: Final = 96
_LEAD_MAGIC: Final = bytes.fromhex("edabeedb")
CPIO_MAGIC: Final = b"0707"
"""How each of rpm's payloads starts when it is not compressed (rpm's lib/cpio.cc)."""

_SIGNATURE_ENTRIES_MAX: Final = 32  # hdrblobVerifyLengths in rpm's lib/header.cc
_SENSE: Final = ((0x02, "<"), (0x04, ">"), (0x08, "="))
_SENSE_RPMLIB: Final = 1 << 24


@dataclass(frozen=True, slots=True)
class _PackageFile:
    """A package file: its two headers, split, and where in the file they and the payload start.

    `bare` says that the payload is not compressed.
    """

    signature: SplitHeader = field(repr=False)
    blob: SplitHeader = field(repr=False)
    header_at: int
    payload_at: int
    bare: bool

    @property
    def header(self) -> Header:
        return self.blob.region

    @property
    def whole_bytes(self) -> int | None:
        """The size of the whole file, if the package says it.

        Format 6 has the payload's size in the header; format 4 has header and payload in the
        signature header. A payload of format 6 may be exchanged for its uncompressed one.
        """
        header = self.header
        if header.integers(Tag.RPMFORMAT, Type.INT32) >= (6,):
            tag = Tag.PAYLOADSIZEALT if self.bare else Tag.PAYLOADSIZE
            sizes = header.integers(tag, Type.INT64)
            return self.payload_at + sizes[0] if sizes else None
        signature = self.signature.region
        sizes = signature.integers(SignatureTag.LONGSIZE, Type.INT64) or signature.integers(
            SignatureTag.SIZE, Type.INT32
        )
        return self.header_at + sizes[0] if sizes else None


def digest_parts(stream: BinaryIO) -> tuple[str, str]:
    """sha256 (hex) of the package file's immutable header, and of its payload.

    Raises HeaderError, OSError.
    """
    file = read_file(stream)
    stream.seek(file.payload_at)
    return hashlib.sha256(file.blob.image).hexdigest(), digest_of(stream)[0]


def read_file(stream: BinaryIO) -> _PackageFile:
    """The package file at the start of `stream`, read up to its payload.

    Raises HeaderError for what is none, or ends before its payload; OSError.
    """
    lead = stream.read(_LEAD_BYTES)
    if len(lead) < _LEAD_BYTES or not lead.startswith(_LEAD_MAGIC):
        raise HeaderError("no lead of an RPM package")
    signature = _read_blob(stream, "signature", _SIGNATURE_ENTRIES_MAX)
    stream.read(-len(signature) % 8)
    header_at = _LEAD_BYTES + len(MAGIC) + len(signature) + -len(signature) % 8
    header = _read_blob(stream, "header", ENTRIES_MAX)
    payload_at = header_at + len(MAGIC) + len(header)
    bare = stream.read(len(CPIO_MAGIC)) == CPIO_MAGIC
    blob = _split_as(header, Tag.HEADERIMMUTABLE)
    region = (blob.region_entries, blob.region_bytes)
    if blob.region_entries and region != (len(blob.index), len(blob.data)):
        raise HeaderError("its header has more than its region")
    return _PackageFile(
        _split_as(signature, Tag.HEADERSIGNATURES), blob, header_at, payload_at, bare
    )


def read_package(path: str | os.PathLike[str]) -> Header:
    """The header of the package file at `path`. HeaderError if it is none; OSError."""
    with open(path, "rb") as stream:
        return read_file(stream).header


def _split_as(data: bytes, region: Tag) -> SplitHeader:
    blob = split(data)
    if blob.region_entries and blob.index[0][0] != region:
        raise HeaderError(f"a region of tag {blob.index[0][0]} where {region} should be")
    return blob


def _read_blob(stream: BinaryIO, what: str, entries_max: int) -> bytes:
    """The header structure that follows, without its magic."""
    intro = stream.read(len(MAGIC) + COUNTS.size)
    if not intro.startswith(MAGIC) or len(intro) < len(MAGIC) + COUNTS.size:
        raise HeaderError(f"no RPM {what} where one should be")
    count, size = COUNTS.unpack_from(intro, len(MAGIC))
    if count > entries_max or size > BLOB_MAX:
        raise HeaderError(f"its {what} is too large: {count} entries, {size} bytes")
    rest = stream.read(16 * count + size)
    if len(rest) < 16 * count + size:
        raise HeaderError(f"it is truncated in its {what}")
    return intro[len(MAGIC) :] + rest


# What a header says of its package, as rpm itself reads it.


def is_source(header: Header) -> bool:
    """Whether it is a source package.

    rpm before 4.14 has no tag that says it: then it is one without directories (applyRetrofits in
    rpm's lib/package.cc).
    """
    if Tag.SOURCERPM in header.entries or Tag.SOURCEPACKAGE in header.entries:
        return Tag.SOURCEPACKAGE in header.entries
    return header.strings(Tag.DIRNAMES) == [""]


def nevra(header: Header) -> str:
    """NAME-[EPOCH:]VERSION-RELEASE[.ARCH], rpm's ``%{nevra}``."""
    epoch = "".join(f"{one}:" for one in header.integers(Tag.EPOCH, Type.INT32)[:1])
    name, version, release, arch = (
        header.string(tag) or "" for tag in (Tag.NAME, Tag.VERSION, Tag.RELEASE, Tag.ARCH)
    )
    return f"{name}-{epoch}{version}-{release}" + (f".{arch}" if arch else "")


def requirements(header: Header, *, internal: bool = False) -> list[str]:
    """``NAME [<=> VERSION]`` each, sorted, once; rpm's own features only if `internal`."""
    names = header.strings(Tag.REQUIRENAME)
    flags = header.integers(Tag.REQUIREFLAGS, Type.INT32)
    versions = header.strings(Tag.REQUIREVERSION)
    if not len(names) == len(flags) == len(versions):
        raise HeaderError("REQUIREFLAGS and REQUIREVERSION are not as many as REQUIRENAME")
    found = set()
    for name, flag, version in zip(names, flags, versions, strict=True):
        if not internal and (flag & _SENSE_RPMLIB or name.startswith("rpmlib(")):
            continue
        sense = "".join(sign for bit, sign in _SENSE if flag & bit)
        found.add(f"{name} {sense} {version}" if sense and version else name)
    return sorted(found)


def spec_names(header: Header) -> list[str]:
    """The source package's spec files, in its order: by their names, as mock finds them."""
    return [name for name in header.strings(Tag.BASENAMES) if name.endswith(".spec")]
