# SPDX-License-Identifier: GPL-2.0-or-later
"""A package file of RPM: its signed header, and that the payload is the one it names.

Only the header is signed; it holds the payload's digest.
"""

from __future__ import annotations

import hashlib
import io
from typing import Final

from mock_cloud.signed.header import SignedHeader, add_signatures, read_region
from mock_cloud.signed.keys import PackageKeys
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.rpmfile import read_file
from mock_cloud.wire.rpmheader import HeaderError, Tag, Type

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
    _check_payload(header, payload)
    return RpmFile(
        name=_required(header, Tag.NAME),
        version=_required(header, Tag.VERSION),
        release=_required(header, Tag.RELEASE),
        arch=_required(header, Tag.ARCH),
        built=next(iter(header.integers(Tag.BUILDTIME, Type.INT32)), 0),
        signer=signer,
    )


def _check_payload(header: SignedHeader, payload: bytes) -> None:
    """The payload has each digest that the header has of it, and there is one."""
    # Formats 4 and 6 name the first one alike, but only 4 says of what kind it is.
    kinds = header.integers(Tag.PAYLOADSHA256ALGO, Type.INT32) or (_SHA256,)
    signed = {"sha256": next(iter(header.strings(Tag.PAYLOADSHA256)), None)}
    if kinds[0] != _SHA256:
        raise HeaderError(f"the payload's digest is of the kind {kinds[0]}, not sha256")
    signed["sha512"] = header.string(Tag.PAYLOADSHA512)
    signed["sha3_256"] = header.string(Tag.PAYLOADSHA3_256)
    found = {name: digest for name, digest in signed.items() if digest is not None}
    if not found:
        raise HeaderError("no digest of the payload is signed")
    for name, digest in found.items():
        if hashlib.new(name, payload).hexdigest() != digest:
            raise HeaderError(f"the payload is not the one whose {name} is signed")


def read_unverified(data: bytes) -> tuple[SignedHeader, bytes]:
    """Header and payload of the package file `data`: anybody's. HeaderError."""
    file = read_file(io.BytesIO(data))
    return add_signatures(read_region(file.blob), file.signature), data[file.payload_at :]


def _required(header: SignedHeader, tag: int) -> str:
    value = header.string(tag)
    if not value:
        raise HeaderError(f"tag {tag} is missing")
    return value
