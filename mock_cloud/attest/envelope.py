# SPDX-License-Identifier: GPL-2.0-or-later
"""Signed image manifests: an in-toto Statement v1 in a DSSE envelope.

Signed with an OpenSSH ed25519 key, whose fingerprint is the key id. Everything happens
offline. https://github.com/secure-systems-lab/dsse, https://in-toto.io/Statement/v1.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_ssh_private_key,
)
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import (  # type: ignore[attr-defined]
    CryptoSigner,
    Signature,
    SSlibKey,
)

from mock_cloud.attest import strict
from mock_cloud.attest.manifest import (
    SIZE_MAX,
    ImageManifest,
    json_bytes,
    manifest_to_json,
    parse_manifest,
)
from mock_cloud.attest.strict import Malformed
from mock_cloud.errors import AttestationRefused, ConfigError, Reason
from mock_cloud.model import HostKey

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
STATEMENT: Final = "https://in-toto.io/Statement/v1"
PREDICATE: Final = "urn:mock-cloud:predicate:image-manifest:v1"
_ALGORITHM: Final = "ssh-ed25519"
_KEY_SIZE: Final = 32
_SIGNATURES_MAX: Final = 16


def sign_manifest(manifest: ImageManifest, private_openssh_ed25519: bytes) -> bytes:
    """The envelope with one signature. ConfigError if the key can't be used.

    `private_openssh_ed25519` is an OpenSSH private key file without a passphrase.
    """
    private = _private_key(private_openssh_ed25519)
    envelope = Envelope(json_bytes(_statement(manifest)), PAYLOAD_TYPE, {})
    envelope.sign(CryptoSigner(private, _verifier(_public_key(private))))
    return json_bytes(envelope.to_dict())


def signer_of(private_openssh_ed25519: bytes) -> HostKey:
    """The public key that will verify what `sign_manifest` signs with this one. ConfigError."""
    return _public_key(_private_key(private_openssh_ed25519))


def _private_key(private_openssh_ed25519: bytes) -> Ed25519PrivateKey:
    try:
        private = load_ssh_private_key(private_openssh_ed25519, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(
            "the manifest's signing key can't be read",
            hint="an OpenSSH ed25519 key without a passphrase: ssh-keygen -t ed25519 -N ''",
        ) from error
    if not isinstance(private, Ed25519PrivateKey):
        raise ConfigError("the manifest's signing key is not an ed25519 key")
    return private


def _public_key(private: Ed25519PrivateKey) -> HostKey:
    line = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return HostKey.parse(line.decode())


def verify_manifest(envelope: bytes, public_keys: Iterable[HostKey]) -> ImageManifest:
    """The manifest in `envelope`, signed by one of `public_keys`.

    1. There are keys to trust. 2. The envelope is one. 3. One of the keys signed the payload.
    4. Only then: the payload is our statement, and its subject is the manifest it carries.

    Raises AttestationRefused: ``manifest.no-keys``, ``manifest.malformed``,
    ``manifest.signature``.
    """
    # 1
    keys = {key.fingerprint: key for key in public_keys}
    if not keys:
        raise _refused("manifest.no-keys", "no key is trusted to sign manifests")
    try:
        # 2
        parsed = _envelope(strict.load(envelope, limit_bytes=2 * SIZE_MAX))
        # 3
        _check_signature(parsed, keys)
        # 4
        return _manifest(strict.load(parsed.payload, limit_bytes=SIZE_MAX))
    except Malformed as error:
        raise _refused("manifest.malformed", str(error)) from error


def _statement(manifest: ImageManifest) -> dict[str, Any]:
    return {
        "_type": STATEMENT,
        "subject": [{"name": manifest.name, "digest": {"sha256": manifest.sha256}}],
        "predicateType": PREDICATE,
        "predicate": manifest_to_json(manifest),
    }


def _manifest(payload: object) -> ImageManifest:
    statement = strict.obj(payload, "statement", ("_type", "subject", "predicateType", "predicate"))
    if (statement["_type"], statement["predicateType"]) != (STATEMENT, PREDICATE):
        raise Malformed("the statement is not about an image manifest")
    manifest = parse_manifest(statement["predicate"])
    if statement["subject"] != [{"name": manifest.name, "digest": {"sha256": manifest.sha256}}]:
        raise Malformed("the statement's subject is not the manifest it carries")
    return manifest


def _envelope(value: object) -> Envelope:
    found = strict.obj(value, "envelope", ("payload", "payloadType", "signatures"))
    if found["payloadType"] != PAYLOAD_TYPE:
        raise Malformed(f"payloadType is not {PAYLOAD_TYPE}")
    signatures: dict[str, Signature] = {}
    for item in strict.items(found["signatures"], "signatures", limit=_SIGNATURES_MAX):
        one = strict.obj(item, "signature", ("keyid", "sig"))
        key_id = strict.text(one["keyid"], "keyid")
        signatures[key_id] = Signature(key_id, _base64(one["sig"], 1024).hex())
    return Envelope(_base64(found["payload"], 2 * SIZE_MAX), PAYLOAD_TYPE, signatures)


def _base64(value: object, limit: int) -> bytes:
    if type(value) is not str or len(value) > limit:
        raise Malformed("not base64 of a sensible length")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Malformed("not base64") from error


def _check_signature(envelope: Envelope, keys: dict[str, HostKey]) -> None:
    try:
        envelope.verify([_verifier(key) for key in keys.values()], threshold=1)
    except VerificationError as error:
        shown = ", ".join(sorted(envelope.signatures)) or "nobody"
        raise _refused("manifest.signature", f"signed by {shown[:200]}") from error


def _verifier(key: HostKey) -> SSlibKey:
    """The key as securesystemslib wants it. ConfigError if it is not ed25519.

    An RFC 8709 key blob is the algorithm's name and 32 bytes, each with its length before.
    """
    head = len(_ALGORITHM).to_bytes(4, "big") + _ALGORITHM.encode() + _KEY_SIZE.to_bytes(4, "big")
    if not key.blob.startswith(head) or len(key.blob) != len(head) + _KEY_SIZE:
        raise ConfigError(f"a manifest key is not ed25519: {key.algorithm}")
    public = key.blob[len(head) :].hex()
    return SSlibKey(key.fingerprint, "ed25519", "ed25519", {"public": public})


def _refused(code: str, why: str) -> AttestationRefused:
    return AttestationRefused(
        f"the image manifest can't be trusted: {why}",
        reasons=(Reason(code, "manifest", found=why),),
        hint="check [attest] manifest and manifest_keys of the remote",
    )
