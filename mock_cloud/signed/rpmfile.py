# SPDX-License-Identifier: GPL-2.0-or-later
"""A package file of RPM: its signed header, and that the payload is the one it names.

Layout (rpm's docs/manual/format_v4.md): a lead of 96 bytes, the signature header padded to 8
bytes, the header, the payload. Only the header is signed; it holds the payload's digest.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Final

from mock_cloud.signed.header import (
    BLOB_MAX,
    INT32,
    MAGIC,
    Header,
    HeaderError,
    parse_header,
    parse_signatures,
)
from mock_cloud.signed.keys import PackageKeys

_LEAD_BYTES: Final = 96
_LEAD_MAGIC: Final = bytes.fromhex("edabeedb")
_NAME, _VERSION, _RELEASE, _BUILD_TIME, _ARCH = 1000, 1001, 1002, 1006, 1022
_PAYLOAD_DIGEST, _PAYLOAD_DIGEST_ALGO = 5092, 5093
_SHA256: Final = 8  # RFC 4880, 9.4


@dataclass(frozen=True, slots=True)
class RpmFile:
    """A package whose header a pinned key signed. `built` is Unix time; `signer` a fingerprint."""

    name: str
    version: str
    release: str
    arch: str
    built: int
    signer: str


def verify_rpm(data: bytes, keys: PackageKeys) -> RpmFile:
    """The package in the file `data`, payload included. HeaderError, keys.UnsignedError."""
    header, payload = read_unverified(data)
    signer = keys.verify(header)
    algorithm = header.integers(_PAYLOAD_DIGEST_ALGO, INT32)
    digest = hashlib.sha256(payload).hexdigest()
    if algorithm[:1] != (_SHA256,) or header.strings(_PAYLOAD_DIGEST)[:1] != [digest]:
        raise HeaderError("the payload is not the one whose sha256 is signed")
    return RpmFile(
        name=_required(header, _NAME),
        version=_required(header, _VERSION),
        release=_required(header, _RELEASE),
        arch=_required(header, _ARCH),
        built=next(iter(header.integers(_BUILD_TIME, INT32)), 0),
        signer=signer,
    )


def read_unverified(data: bytes) -> tuple[Header, bytes]:
    """Header and payload of the package file `data`: anybody's. HeaderError."""
    if len(data) < _LEAD_BYTES or data[:4] != _LEAD_MAGIC:
        raise HeaderError("no lead of an RPM package")
    signatures, at = _take_header(data, _LEAD_BYTES)
    blob, at = _take_header(data, at + -at % 8)
    return parse_signatures(signatures, parse_header(blob)), data[at:]


def _take_header(data: bytes, at: int) -> tuple[bytes, int]:
    """The header structure at `at`, without its magic, as `parse_header` takes it; its end."""
    if data[at : at + len(MAGIC)] != MAGIC or len(data) < at + 16:
        raise HeaderError("no header where one should be")
    entries, size = struct.unpack_from(">II", data, at + 8)
    end = at + 16 + 16 * entries + size
    if end > len(data) or end - at > BLOB_MAX:
        raise HeaderError("a header that is cut off or too long")
    return data[at + 8 : end], end


def _required(header: Header, tag: int) -> str:
    value = header.string(tag)
    if not value:
        raise HeaderError(f"tag {tag} is missing")
    return value
