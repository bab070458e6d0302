# SPDX-License-Identifier: GPL-2.0-or-later
"""Signed statements: an in-toto Statement v1 in a DSSE envelope, with one or more signatures.

Signed with OpenSSH ed25519 keys, whose fingerprints are the key ids. Everything happens
offline. https://github.com/secure-systems-lab/dsse, https://in-toto.io/Statement/v1.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from typing import Annotated, Any, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_ssh_private_key,
)

from mock_cloud.attest.files import Text
from mock_cloud.attest.manifest import MANIFEST_MAX_BYTES, json_bytes
from mock_cloud.errors import AttestationRefused, ConfigError, Reason
from mock_cloud.model import ED25519, HostKey
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.decode import By, Malformed, at_most, decode, exactly, load_json

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
STATEMENT: Final = "https://in-toto.io/Statement/v1"
_KEY_SIZE: Final = 32
_SIGNATURES_MAX: Final = 16


class NeedsPassphrase(ConfigError):
    """A private key is encrypted, and no passphrase was given."""


class WrongKeys(ConfigError):
    """None of the given keys is one that the envelope says it is signed with."""


def _base64(limit: int) -> By:
    """How bytes are read that stand as at most `limit` characters of base64."""

    def read(value: object) -> bytes:
        if type(value) is not str or len(value) > limit:
            raise Malformed("not base64 of a sensible length")
        try:
            return base64.b64decode(value, validate=True)
        except ValueError as error:
            raise Malformed("not base64") from error

    return By(read)


@dataclass(frozen=True, slots=True)
class Statement:
    """in-toto's statement, v1, as it was signed. Subject and predicate are the caller's to read.

    https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md
    """

    type: Text = field(metadata={"json": "_type"})
    subject: Any
    predicate_type: Text = field(metadata={"json": "predicateType"})
    predicate: Any


@dataclass(frozen=True, slots=True)
class _Signature:
    keyid: Text
    sig: Annotated[bytes, _base64(1024)]


@dataclass(frozen=True, slots=True)
class _EnvelopeJson:
    payload: Annotated[bytes, _base64(2 * MANIFEST_MAX_BYTES)]
    type: Annotated[str, exactly(PAYLOAD_TYPE)] = field(metadata={"json": "payloadType"})
    signatures: Annotated[tuple[_Signature, ...], at_most(_SIGNATURES_MAX)]


@dataclass(frozen=True, slots=True)
class Signer:
    """An ed25519 key that signs: `public` verifies the 64 bytes that `sign` makes of its input.

    Where the private half is, in a file or in an SSH agent, is the affair of `sign`.
    """

    public: HostKey
    sign: Callable[[bytes], bytes] = field(repr=False)

    @classmethod
    def from_private(cls, openssh_key: bytes, passphrase: bytes | None = None) -> Signer:
        """From an OpenSSH private key file's bytes. ConfigError, NeedsPassphrase."""
        try:
            private = load_ssh_private_key(openssh_key, password=passphrase)
        except TypeError as error:  # cryptography: a password is missing, or one is too many
            raise NeedsPassphrase("the signing key has a passphrase") from error
        except (ValueError, UnsupportedAlgorithm) as error:
            wrong = passphrase is not None
            raise ConfigError(
                "the signing key can't be read" + (" with this passphrase" if wrong else ""),
                hint="an OpenSSH ed25519 private key is wanted: ssh-keygen -t ed25519 makes one",
            ) from error
        if not isinstance(private, Ed25519PrivateKey):
            raise ConfigError("the signing key is not an ed25519 key")
        line = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        return cls(HostKey.parse(line.decode()), private.sign)


@dataclass(frozen=True, slots=True)
class _Envelope:
    """A payload and the signatures of it, by key id."""

    payload: bytes
    signatures: dict[str, bytes]

    def signed_bytes(self) -> bytes:
        """DSSE's pre-authentication encoding, version 1: what a signature is made over.

        https://github.com/secure-systems-lab/dsse/blob/v1.0.0/protocol.md#signature-definition
        """
        type_ = PAYLOAD_TYPE.encode()
        return b"DSSEv1 %d %b %d %b" % (len(type_), type_, len(self.payload), self.payload)

    def to_json(self) -> bytes:
        return json_bytes(
            {
                "payload": base64.b64encode(self.payload).decode(),
                "payloadType": PAYLOAD_TYPE,
                "signatures": [
                    {"keyid": name, "sig": base64.b64encode(signature).decode()}
                    for name, signature in self.signatures.items()
                ],
            }
        )


def sign_statement(
    predicate_type: str, subject: Mapping[str, str], predicate: object, signer: Signer
) -> bytes:
    """The envelope with one signature. `subject` maps names to their sha256 (hex)."""
    statement = _statement(predicate_type, subject, predicate)
    return _add(_Envelope(json_bytes(statement), {}), signer)


def add_signature(envelope: bytes, signer: Signer) -> bytes:
    """The envelope with one more signature, or a new one of the same key. AttestationRefused.

    The payload is signed as it is: the caller has looked at it.
    """
    try:
        return _add(_envelope(load_json(envelope, limit_bytes=2 * MANIFEST_MAX_BYTES)), signer)
    except Malformed as error:
        raise refusal("manifest.malformed", str(error)) from error


def open_statement(
    envelope: bytes,
    public_keys: Iterable[HostKey],
    predicate_type: str,
    *,
    threshold: int = 1,
    revoked: Iterable[str] = (),
    what: str = "image manifest",
) -> tuple[Statement, frozenset[str]]:
    """The statement in `envelope` and the fingerprints of the `public_keys` that signed it.

    1. There are keys to trust. 2. The envelope is one. 3. `threshold` different keys signed the
    payload; those in `revoked` (fingerprints) do not count. 4. Only then: the payload is a
    statement of this type, whose subject and predicate the caller has to compare.

    Raises AttestationRefused: ``manifest.no-keys``, ``.malformed``, ``.signature``, ``.revoked``,
    ``.threshold``. WrongKeys if the signers it names are all others than `public_keys`: then
    these are the wrong keys, or somebody else's manifest.
    """
    # 1
    keys = {key.fingerprint: key for key in public_keys}
    if not keys:
        raise refusal("manifest.no-keys", f"no key is trusted to sign it: {what}")
    try:
        # 2
        parsed = _envelope(load_json(envelope, limit_bytes=2 * MANIFEST_MAX_BYTES))
        # 3
        signers = _check_signatures(parsed, keys, threshold, frozenset(revoked), what)
        # 4
        payload = load_json(parsed.payload, limit_bytes=MANIFEST_MAX_BYTES)
        statement = decode(Statement, payload, "statement")
        if (statement.type, statement.predicate_type) != (STATEMENT, predicate_type):
            shown = statement.predicate_type[:200]
            raise Malformed(f"the statement is not of type {predicate_type} but {shown!a}")
    except Malformed as error:
        raise refusal("manifest.malformed", str(error), what=what) from error
    return statement, signers


def check_subject(statement: Statement, subject: Mapping[str, str]) -> None:
    """Malformed unless the statement is about `subject`, as `sign_statement` writes it."""
    if statement.subject != _subject(subject):
        raise Malformed("the statement's subject is not what it carries")


def refusal(
    code: str, why: str, *, what: str = "image manifest", hint: str = ""
) -> AttestationRefused:
    """An AttestationRefused about a manifest, not about a node."""
    return AttestationRefused(
        f"the {what} can't be trusted: {why}",
        reasons=(Reason(code, "manifest", found=why),),
        hint=hint or "check [attest] manifest and manifest_keys of the remote",
    )


def _statement(type_: str, subject: Mapping[str, str], predicate: object) -> dict[str, object]:
    return {
        "_type": STATEMENT,
        "subject": _subject(subject),
        "predicateType": type_,
        "predicate": predicate,
    }


def _subject(subject: Mapping[str, str]) -> list[dict[str, object]]:
    return [{"name": name, "digest": {"sha256": sha256}} for name, sha256 in subject.items()]


def _add(envelope: _Envelope, signer: Signer) -> bytes:
    name, signed = signer.public.fingerprint, envelope.signed_bytes()
    signature = signer.sign(signed)
    try:
        _public_key(signer.public).verify(signature, signed)
    except InvalidSignature as error:
        raise ConfigError(f"the key {name} made a signature that does not verify") from error
    envelope.signatures[name] = signature
    if len(envelope.signatures) > _SIGNATURES_MAX:
        raise ConfigError(f"a manifest has at most {_SIGNATURES_MAX} signatures")
    return envelope.to_json()


def _envelope(value: object) -> _Envelope:
    found = decode(_EnvelopeJson, value, "envelope")
    signatures = {one.keyid: one.sig for one in found.signatures}
    if len(signatures) != len(found.signatures):
        raise Malformed("two signatures of one key")
    return _Envelope(found.payload, signatures)


def _check_signatures(
    envelope: _Envelope,
    keys: Mapping[str, HostKey],
    threshold: int,
    revoked: frozenset[str],
    what: str,
) -> frozenset[str]:
    verifiers = {name: _public_key(key) for name, key in keys.items()}
    named = ", ".join(sorted(envelope.signatures))[:300]
    if envelope.signatures and not envelope.signatures.keys() & keys.keys():
        raise WrongKeys(
            f"the {what} is signed by {named!a}, and manifest_keys are {', '.join(sorted(keys))}",
            hint="manifest_keys names the wrong key, or manifest somebody else's manifest;"
            " ssh-keygen -l -f FILE shows a key's fingerprint",
        )
    good = set()
    signed = envelope.signed_bytes()
    for name, signature in envelope.signatures.items():
        try:
            if name in verifiers:
                verifiers[name].verify(signature, signed)
                good.add(name)
        except InvalidSignature as error:
            # It claims to be of our key and is not: that is worse than one that is missing.
            why = f"it is not what {name} signed"
            raise refusal("manifest.signature", why, what=what) from error
    counted = good - revoked
    if good and not counted:
        why = f"its signer {', '.join(sorted(good))} is revoked"
        raise refusal("manifest.revoked", why, what=what)
    if not counted:
        raise refusal("manifest.signature", "nobody signed it", what=what)
    if len(counted) < threshold:
        raise refusal(
            "manifest.threshold",
            f"{len(counted)} of {threshold} wanted signatures, by {', '.join(sorted(counted))}",
            what=what,
            hint="mock-cloud known-good sign adds a signature; manifest_threshold says how many"
            " are wanted",
        )
    return frozenset(counted)


def _public_key(key: HostKey) -> Ed25519PublicKey:
    """ConfigError if it is not ed25519.

    An RFC 8709 key blob is the algorithm's name and 32 bytes, each with its length before.
    """
    head = len(ED25519).to_bytes(4, "big") + ED25519.encode() + _KEY_SIZE.to_bytes(4, "big")
    if not key.blob.startswith(head) or len(key.blob) != len(head) + _KEY_SIZE:
        raise ConfigError(f"the key {key.fingerprint} is not ed25519 but {key.algorithm}")
    return Ed25519PublicKey.from_public_bytes(key.blob[len(head) :])
