# SPDX-License-Identifier: GPL-2.0-or-later
"""Revocations: a signed statement that manifests, or a signer's key, are not to be trusted.

A revocation never expires, and one signature is enough: it can only have nodes refused. Whose
revocations count is up to the remote: those signed by one of its manifest keys, also a revoked one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from mock_cloud.attest.envelope import (
    Signer,
    check_subject,
    open_statement,
    refusal,
    sign_statement,
)
from mock_cloud.attest.manifest import json_bytes
from mock_cloud.attest.strict import each, integer, obj, row, sha256_hex, text
from mock_cloud.model import HostKey
from mock_cloud.wire.decode import Malformed

_PREDICATE: Final = "urn:mock-cloud:predicate:manifest-revocation:v1"
SIZE_MAX: Final = 1 << 20
_FINGERPRINT: Final = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
_KEYS: Final = ("manifests", "serials", "keys", "reason", "issued")
_WHAT: Final = "revocation"


@dataclass(frozen=True, slots=True)
class SerialRange:
    """The serials of one image and architecture from `first` to `last`, both included."""

    image: str
    arch: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Revocation:
    """What is revoked: manifests by sha256 (hex), by serial, and all that keys signed.

    `keys` are fingerprints. `reason` is for people.
    """

    manifests: tuple[str, ...] = ()
    serials: tuple[SerialRange, ...] = ()
    keys: tuple[str, ...] = ()
    reason: str = ""
    issued_unix: int = 0

    def covers(self, sha256: str, image: str, arch: str, serial: int) -> bool:
        """Whether this manifest is revoked, whoever signed it."""
        return sha256 in self.manifests or any(
            (one.image, one.arch) == (image, arch) and one.first <= serial <= one.last
            for one in self.serials
        )


def sign_revocation(revocation: Revocation, signer: Signer) -> bytes:
    """The envelope with one signature."""
    predicate = _to_json(revocation)
    return sign_statement(_PREDICATE, {_WHAT: _digest(predicate)}, predicate, signer)


def verify_revocation(envelope: bytes, public_keys: Iterable[HostKey]) -> Revocation:
    """What one of the keys revoked. Raises as `envelope.open_statement`, ConfigError for others."""
    statement, _signers = open_statement(envelope, public_keys, _PREDICATE, what=_WHAT)
    try:
        found = obj(statement["predicate"], "predicate", _KEYS)
        check_subject(statement, {_WHAT: _digest(found)})
        return Revocation(
            each(found["manifests"], "manifests", sha256_hex),
            each(found["serials"], "serials", _range),
            each(found["keys"], "keys", _fingerprint),
            text(found["reason"], "reason"),
            integer(found["issued"], "issued"),
        )
    except Malformed as error:
        raise refusal("manifest.malformed", str(error), what=_WHAT) from error


def _to_json(revocation: Revocation) -> dict[str, Any]:
    return {
        "manifests": list(revocation.manifests),
        "serials": [[one.image, one.arch, one.first, one.last] for one in revocation.serials],
        "keys": list(revocation.keys),
        "reason": revocation.reason,
        "issued": revocation.issued_unix,
    }


def _digest(predicate: object) -> str:
    return hashlib.sha256(json_bytes(predicate)).hexdigest()


def _range(value: object, where: str) -> SerialRange:
    image, arch, first, last = row(value, where, 4)
    return SerialRange(
        text(image, where),
        text(arch, where),
        integer(first, where),
        integer(last, where),
    )


def _fingerprint(value: object, where: str) -> str:
    found = text(value, where)
    if not _FINGERPRINT.fullmatch(found):
        raise Malformed(f"{where}: not an SSH key's fingerprint")
    return found
