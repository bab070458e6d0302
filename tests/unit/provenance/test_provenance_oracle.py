# SPDX-License-Identifier: GPL-2.0-or-later
"""Our provenance against in-toto's, SLSA's and securesystemslib's own code, both ways."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from google.protobuf.json_format import Parse, ParseDict
from in_toto.exceptions import SignatureVerificationError
from in_toto.models.metadata import Envelope as InTotoEnvelope
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
from in_toto_attestation.v1.statement import Statement
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import CryptoSigner, SSlibKey

from mock_cloud.cli import main
from mock_cloud.model import utc_text
from mock_cloud.provenance.statement import open_provenance
from tests.mutations.honest import Results, can_build, make_results, private_key, signer_of

pytestmark = pytest.mark.skipif(not can_build(), reason="needs rpmbuild")


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return make_results(tmp_path / "results")


def theirs(name: str) -> SSlibKey:
    key = signer_of(name).public
    return SSlibKey(key.fingerprint, "ed25519", "ed25519", {"public": key.blob[-32:].hex()})


def envelope(results: Results) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(results.file.read_bytes())
    return found


def test_securesystemslib_verifies_ours(results: Results) -> None:
    read = Envelope.from_dict(envelope(results))
    assert list(read.verify([theirs("builder")], 1)) == [theirs("builder").keyid]
    with pytest.raises(VerificationError):
        Envelope.from_dict(envelope(results)).verify([theirs("stranger")], 1)


def test_in_toto_verifies_ours(results: Results) -> None:
    key = {"keyid": theirs("builder").keyid, **theirs("builder").to_dict()}
    read = InTotoEnvelope.from_dict(envelope(results))
    read.verify_signature(key)
    changed = envelope(results)
    payload = bytearray(base64.b64decode(changed["payload"]))
    payload[50] ^= 1
    changed["payload"] = base64.b64encode(payload).decode()
    with pytest.raises(SignatureVerificationError):
        InTotoEnvelope.from_dict(changed).verify_signature(key)


def test_we_verify_what_securesystemslib_signed(
    results: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    payload = base64.b64decode(envelope(results)["payload"])
    made = Envelope(payload, "application/vnd.in-toto+json", {})
    made.sign(CryptoSigner(load_ssh_private_key(private_key("builder"), None), theirs("builder")))
    results.file.write_text(json.dumps(made.to_dict()))
    assert main(results.argv()) == 0, capsys.readouterr()
    signed = open_provenance(results.file.read_bytes(), [signer_of("builder").public])
    assert signed.signers == {signer_of("builder").public.fingerprint}


def test_it_is_a_statement_and_a_predicate_by_their_schemas(results: Results) -> None:
    """Unknown fields and wrong types are errors to protobuf's reader of JSON."""
    payload = base64.b64decode(envelope(results)["payload"])
    proto = Parse(payload, statement_pb2.Statement())
    Statement.copy_from_pb(proto).validate()
    assert {one.name: one.digest["sha256"] for one in proto.subject} == results.provenance().results
    predicate = ParseDict(json.loads(payload)["predicate"], provenance_pb2.Provenance())
    definition, details = predicate.build_definition, predicate.run_details
    assert definition.build_type == "urn:mock-cloud:build-type:mock:v3"
    assert details.builder.id.endswith(":tier-1")
    finished = json.loads(payload)["predicate"]["runDetails"]["metadata"]["finishedOn"]
    assert utc_text(details.metadata.finished_on.seconds) == finished
    for one in (*definition.resolved_dependencies, *details.byproducts):
        ResourceDescriptor.copy_from_pb(one).validate()
    assert {one.name for one in details.byproducts} == results.provenance().logs.keys()
