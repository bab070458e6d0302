# SPDX-License-Identifier: GPL-2.0-or-later
"""Our DSSE envelopes against securesystemslib's, the reference implementation, both ways."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import CryptoSigner, SSlibKey

from mock_cloud.attest.envelope import (
    PAYLOAD_TYPE,
    STATEMENT,
    Signer,
    add_signature,
    open_statement,
    sign_statement,
)
from mock_cloud.errors import AttestationRefused
from mock_cloud.model import HostKey
from mock_cloud.sshkeys import make_key_pair

TYPE = "urn:test:predicate"
PRIVATE, OTHER = (make_key_pair().private.reveal() for _ in range(2))
TEXT = st.text(st.characters(exclude_categories=("Cs",)))


def theirs(key: HostKey) -> SSlibKey:
    return SSlibKey(key.fingerprint, "ed25519", "ed25519", {"public": key.blob[-32:].hex()})


def their_signer(private: bytes) -> CryptoSigner:
    public = theirs(Signer.from_private(private).public)
    return CryptoSigner(load_ssh_private_key(private, None), public)


def statement(predicate: object) -> bytes:
    content = {"_type": STATEMENT, "subject": [], "predicateType": TYPE, "predicate": predicate}
    return json.dumps(content).encode()


@given(TEXT)
def test_the_reference_verifies_what_we_sign(text: str) -> None:
    one, two = Signer.from_private(PRIVATE), Signer.from_private(OTHER)
    envelope = add_signature(sign_statement(TYPE, {"x": "00"}, {"text": text}, one), two)
    parsed = Envelope.from_dict(json.loads(envelope))
    verified = parsed.verify([theirs(one.public), theirs(two.public)], 2)
    assert set(verified) == {one.public.fingerprint, two.public.fingerprint}
    assert parsed.to_dict() == json.loads(envelope)


@given(TEXT)
def test_we_verify_what_the_reference_signs(text: str) -> None:
    envelope = Envelope(statement({"text": text}), PAYLOAD_TYPE, {})
    for private in (PRIVATE, OTHER):
        envelope.sign(their_signer(private))
    keys = [Signer.from_private(private).public for private in (PRIVATE, OTHER)]
    data = json.dumps(envelope.to_dict()).encode()
    found, signers = open_statement(data, keys, TYPE, threshold=2)
    assert found.predicate == {"text": text}
    assert signers == {key.fingerprint for key in keys}


@pytest.mark.parametrize(
    "signature", [b"", b"x", bytes(63), bytes(64), bytes(65)], ids=lambda it: str(len(it))
)
def test_both_refuse_another_signature(signature: bytes) -> None:
    signer = Signer.from_private(PRIVATE)
    parsed = json.loads(sign_statement(TYPE, {}, {}, signer))
    parsed["signatures"][0]["sig"] = base64.b64encode(signature).decode()
    with pytest.raises(VerificationError):
        Envelope.from_dict(parsed).verify([theirs(signer.public)], 1)
    with pytest.raises(AttestationRefused):
        open_statement(json.dumps(parsed).encode(), [signer.public], TYPE)


def test_both_refuse_a_signature_of_the_payload_alone() -> None:
    """The payload's type is signed, too."""
    signer = Signer.from_private(PRIVATE)
    parsed = json.loads(sign_statement(TYPE, {}, {}, signer))
    signature = signer.sign(base64.b64decode(parsed["payload"]))
    parsed["signatures"][0]["sig"] = base64.b64encode(signature).decode()
    with pytest.raises(VerificationError):
        Envelope.from_dict(parsed).verify([theirs(signer.public)], 1)
    with pytest.raises(AttestationRefused):
        open_statement(json.dumps(parsed).encode(), [signer.public], TYPE)
