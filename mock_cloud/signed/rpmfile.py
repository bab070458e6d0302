# SPDX-License-Identifier: GPL-2.0-or-later
"""A package file of RPM: its signed header, and that the payload is the one it names.

Only the header is signed; it holds the payload's digest.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import Final

from mock_cloud.signed.header import SignedHeader, add_signatures, read_region
from mock_cloud.signed.keys import PackageKeys
from mock_cloud.wire.rpmfile import read_file
from mock_cloud.wire.rpmheader import HeaderError
from mock_cloud.wire.rpmtags import Tag, Type

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
    # Format 6 has no such tag: there the digest's own tag says what it is.
    algorithm = header.integers(Tag.PAYLOADSHA256ALGO, Type.INT32) or (_SHA256,)
    digest = hashlib.sha256(payload).hexdigest()
    if algorithm[:1] != (_SHA256,) or header.strings(Tag.PAYLOADSHA256)[:1] != [digest]:
        raise HeaderError("the payload is not the one whose sha256 is signed")
    return RpmFile(
        name=_required(header, Tag.NAME),
        version=_required(header, Tag.VERSION),
        release=_required(header, Tag.RELEASE),
        arch=_required(header, Tag.ARCH),
        built=next(iter(header.integers(Tag.BUILDTIME, Type.INT32)), 0),
        signer=signer,
    )


def read_unverified(data: bytes) -> tuple[SignedHeader, bytes]:
    """Header and payload of the package file `data`: anybody's. HeaderError."""
    file = read_file(io.BytesIO(data))
    return add_signatures(read_region(file.blob), file.signature), data[file.payload_at :]


def _required(header: SignedHeader, tag: int) -> str:
    value = header.string(tag)
    if not value:
        raise HeaderError(f"tag {tag} is missing")
    return value
