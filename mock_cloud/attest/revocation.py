# SPDX-License-Identifier: GPL-2.0-or-later
"""Revocations: a signed statement that manifests, or a signer's key, are not to be trusted.

A revocation never expires, and one signature is enough: it can only have nodes refused. Whose
revocations count is up to the remote: those signed by one of its manifest keys, also a revoked one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import field
from typing import Annotated, ClassVar, Final

from mock_cloud.attest.envelope import (
    Signer,
    check_subject,
    open_statement,
    refusal,
    sign_statement,
)
from mock_cloud.attest.files import Text
from mock_cloud.attest.manifest import json_bytes
from mock_cloud.model import HostKey
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.decode import Malformed, Natural, Sha256, decode, encode, matching

_PREDICATE: Final = "urn:mock-cloud:predicate:manifest-revocation:v1"
REVOCATION_MAX_BYTES: Final = 1 << 20
_Fingerprint = Annotated[str, matching(r"SHA256:[A-Za-z0-9+/]{43}", "an SSH key's fingerprint")]
_WHAT: Final = "revocation"


@dataclass(frozen=True, slots=True)
class SerialRange:
    """The serials of one image and architecture from `first` to `last`, both included."""

    is_row: ClassVar[bool] = True
    image: Text
    arch: Text
    first: Natural
    last: Natural


@dataclass(frozen=True, slots=True)
class Revocation:
    """What is revoked: manifests by sha256 (hex), by serial, and all that keys signed.

    `keys` are fingerprints. `reason` is for people.
    """

    manifests: tuple[Sha256, ...] = ()
    serials: tuple[SerialRange, ...] = ()
    keys: tuple[_Fingerprint, ...] = ()
    reason: Text = ""
    issued_unix: Natural = field(default=0, metadata={"json": "issued"})

    def covers(self, sha256: str, image: str, arch: str, serial: int) -> bool:
        """Whether this manifest is revoked, by any signer."""
        return sha256 in self.manifests or any(
            (one.image, one.arch) == (image, arch) and one.first <= serial <= one.last
            for one in self.serials
        )


def sign_revocation(revocation: Revocation, signer: Signer) -> bytes:
    """The envelope with one signature."""
    predicate = encode(revocation)
    return sign_statement(_PREDICATE, {_WHAT: _digest(predicate)}, predicate, signer)


def verify_revocation(envelope: bytes, public_keys: Iterable[HostKey]) -> Revocation:
    """What one of the keys revoked. Raises as `envelope.open_statement`, ConfigError for others."""
    statement, _signers = open_statement(envelope, public_keys, _PREDICATE, what=_WHAT)
    try:
        check_subject(statement, {_WHAT: _digest(statement.predicate)})
        return decode(Revocation, statement.predicate, "predicate")
    except Malformed as error:
        raise refusal("manifest.malformed", str(error), what=_WHAT) from error


def _digest(predicate: object) -> str:
    return hashlib.sha256(json_bytes(predicate)).hexdigest()
