# SPDX-License-Identifier: GPL-2.0-or-later
"""Signatures of `ssh-keygen -Y sign`, verified: ed25519 keys, one namespace.

https://github.com/openssh/openssh-portable/blob/master/PROTOCOL.sshsig
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from mock_cloud.model import HostKey

_ARMOUR: Final = re.compile(
    r"-----BEGIN SSH SIGNATURE-----\n([A-Za-z0-9+/=\n]{1,4096})-----END SSH SIGNATURE-----\n?"
)
_MAGIC: Final = b"SSHSIG"
_VERSION: Final = 1
_KIND: Final = b"ssh-ed25519"
_HASHES: Final = {b"sha256": hashlib.sha256, b"sha512": hashlib.sha512}
_KEY_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 64


class BadSignature(ValueError):
    """A signature that is none, or not of this message, by this key, in this namespace."""


def verify_sshsig(armoured: str, message: bytes, key: HostKey, namespace: str) -> None:
    """Raise BadSignature unless `key` (ed25519) signed `message` in `namespace`."""
    match = _ARMOUR.fullmatch(armoured)
    if match is None:
        raise BadSignature("not a signature of ssh-keygen's")
    try:
        blob = base64.b64decode(match[1].replace("\n", ""), validate=True)
    except binascii.Error as error:
        raise BadSignature(f"not base64: {error}") from error
    if not blob.startswith(_MAGIC + _VERSION.to_bytes(4, "big")):
        raise BadSignature("not a signature of version 1")
    public, blob = _string(blob[len(_MAGIC) + 4 :])
    space, blob = _string(blob)
    reserved, blob = _string(blob)
    hashed, blob = _string(blob)
    signature, blob = _string(blob)
    kind, raw = _string(signature)
    raw, rest = _string(raw)
    if blob or rest or kind != _KIND or len(raw) != _SIGNATURE_BYTES:
        raise BadSignature("not a signature by an ed25519 key")
    if public != key.blob:
        raise BadSignature(f"by another key: {HostKey('', public).fingerprint}")
    if space != namespace.encode():
        raise BadSignature(f"in another namespace: {space[:80]!a}")
    if hashed not in _HASHES:
        raise BadSignature(f"of a digest that is not known: {hashed[:20]!a}")
    digest = _HASHES[hashed](message).digest()
    signed = _MAGIC + b"".join(map(_packed, (space, reserved, hashed, digest)))
    try:
        Ed25519PublicKey.from_public_bytes(_raw_key(key)).verify(raw, signed)
    except InvalidSignature as error:
        raise BadSignature("not of what is there") from error


def _raw_key(key: HostKey) -> bytes:
    kind, rest = _string(key.blob)
    raw, rest = _string(rest)
    if rest or kind != _KIND or len(raw) != _KEY_BYTES:
        raise BadSignature("the key is not an ed25519 key")
    return raw


def _string(data: bytes) -> tuple[bytes, bytes]:
    """The first string of SSH's in `data`, and what follows. BadSignature."""
    size = int.from_bytes(data[:4], "big")
    if len(data) < 4 or size > len(data) - 4:
        raise BadSignature("cut short")
    return data[4 : 4 + size], data[4 + size :]


def _packed(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data
