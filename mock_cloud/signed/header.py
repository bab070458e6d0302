# SPDX-License-Identifier: GPL-2.0-or-later
"""The signed region of an RPM header, its digest and its signatures.

The signed bytes are ``8eade80100000000``, the two counts of the immutable region (tag 63), its
index, its data. What stands outside of it (signatures, install time, file states) was added
later and is covered by no signature. Everything here is hostile, and no other exception than
HeaderError leaves this module.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import field, replace
from typing import Final

from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.rpmheader import Header, HeaderError, SplitHeader, Tag, split

_SIGNATURES_MAX: Final = 16
_SIGNATURE_BYTES_MAX: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class SignedHeader(Header):
    """A header's immutable region. `signed` are the bytes that a signature covers.

    `sha256` (hex) is theirs; `signatures` are raw OpenPGP packets found outside of the region.
    The getters read the region only.
    """

    signed: bytes = field(repr=False)
    sha256: str
    signatures: tuple[bytes, ...] = field(repr=False)


def parse_signed_header(blob: bytes) -> SignedHeader:
    """Split an rpmdb blob and check its region's digest. Raises HeaderError.

    SHA256HEADER, where there is one, must agree; it proves nothing, a signature does
    (`packages.verify_package`).
    """
    header = split(blob)
    return _with_signatures(read_region(header), header.outside)


def read_region(blob: SplitHeader) -> SignedHeader:
    """The immutable region of a header, without signatures. HeaderError if there is none."""
    if not blob.region_entries or blob.index[0][0] != Tag.HEADERIMMUTABLE:
        raise HeaderError("the first entry is not an immutable region")
    region = blob.region
    signed = blob.image
    sha256 = hashlib.sha256(signed).hexdigest()
    return SignedHeader(region.data, region.entries, signed, sha256, ())


def add_signatures(header: SignedHeader, signature: SplitHeader) -> SignedHeader:
    """`header`, from a package file, with the signatures of that file's signature header.

    Who signs a package that was built elsewhere adds to the signature header, outside of its
    region. Raises HeaderError, also if its SHA256HEADER is not the header's.
    """
    return _with_signatures(header, signature.region, signature.outside)


def _with_signatures(header: SignedHeader, *places: Header) -> SignedHeader:
    if any(one.string(Tag.SHA256HEADER) not in (None, header.sha256) for one in places):
        raise HeaderError("SHA256HEADER is not the sha256 of the immutable region")
    found = tuple(signature for one in places for signature in _signatures(one))
    return replace(header, signatures=found)


def _signatures(found: Header) -> tuple[bytes, ...]:
    """Header signatures: OPENPGP (base64, rpm 6), RSAHEADER and DSAHEADER (binary)."""
    binary = (found.binary(tag) for tag in (Tag.RSAHEADER, Tag.DSAHEADER))
    texts = found.strings(Tag.OPENPGP)
    if len(texts) > _SIGNATURES_MAX:
        raise HeaderError("OPENPGP has too many signatures")
    signatures = (*(one for one in binary if one is not None), *map(_unbase64, texts))
    if any(len(one) > _SIGNATURE_BYTES_MAX for one in signatures):
        raise HeaderError("a signature is too long")
    return signatures


def _unbase64(text: str) -> bytes:
    if len(text) > 2 * _SIGNATURE_BYTES_MAX:
        raise HeaderError("OPENPGP: a signature too long")
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:  # a surrogate is not ASCII either
        raise HeaderError("OPENPGP: a signature is not base64") from error
