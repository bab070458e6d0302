# SPDX-License-Identifier: GPL-2.0-or-later
"""Image manifests: made from an image, signed, verified, and refused."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from mock_cloud.attest.envelope import Signer, sign_statement
from mock_cloud.attest.evidence import parse_evidence
from mock_cloud.attest.files import FileFact
from mock_cloud.attest.image_manifest import BakeChoices, make_manifest
from mock_cloud.attest.manifest import ImageManifest
from mock_cloud.attest.rules.volatile import VolatileKind, VolatileRule
from mock_cloud.attest.validity import Validity, sign_manifest, verify_manifest
from mock_cloud.errors import AttestationRefused, ConfigError
from mock_cloud.model import HostKey
from tests.unit.attest.attest_builder import (
    ACCOUNTS,
    UNOWNED,
    Node,
    blob,
    judge,
    keys,
    manifest,
    sha256,
)


def private_bytes(key: Any) -> bytes:
    found: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    return found


def new_key() -> tuple[bytes, HostKey]:
    key = Ed25519PrivateKey.generate()
    line = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return private_bytes(key), HostKey.parse(line.decode())


PRIVATE, PUBLIC = new_key()
VALID = Validity("test", 7, 1000, 2000)


def signed(private: bytes = PRIVATE) -> bytes:
    return sign_manifest(manifest(), VALID, Signer.from_private(private))


def make(image: Node, **choices: Any) -> ImageManifest:
    given: dict[str, Any] = {"name": "test", "created": "now", "accounts": ACCOUNTS} | choices
    evidence = parse_evidence(image.to_bytes())
    return make_manifest(evidence, image.blobs, keys(), BakeChoices(**given))


def code_of(envelope: bytes, trusted: list[HostKey]) -> str:
    with pytest.raises(AttestationRefused) as caught:
        verify_manifest(envelope, trusted)
    return caught.value.reasons[0].code


def tampered(change: Any) -> bytes:
    """A signed envelope whose statement was changed afterwards."""
    envelope = json.loads(signed())
    statement = json.loads(base64.b64decode(envelope["payload"]))
    change(statement)
    envelope["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    return json.dumps(envelope).encode()


def test_a_signed_manifest_comes_back_as_it_was() -> None:
    envelope = signed()
    found = verify_manifest(envelope, [new_key()[1], PUBLIC])
    assert (found.validity, found.signers) == (VALID, {PUBLIC.fingerprint})
    again = found.manifest
    assert again.sha256 == manifest().sha256
    assert set(again.entries) == set(manifest().entries)
    judge(Node().boot(), image=again)


def test_the_envelope_names_its_key_by_ssh_fingerprint() -> None:
    envelope = json.loads(signed())
    assert [one["keyid"] for one in envelope["signatures"]] == [PUBLIC.fingerprint]
    assert envelope["payloadType"] == "application/vnd.in-toto+json"


def test_without_trusted_keys_nothing_is_trusted() -> None:
    assert code_of(signed(), []) == "manifest.no-keys"


def test_a_manifest_of_strangers_is_a_wrong_key_in_the_configuration() -> None:
    private, public = new_key()
    with pytest.raises(ConfigError) as caught:
        verify_manifest(signed(private), [PUBLIC])
    assert public.fingerprint in caught.value.message
    assert PUBLIC.fingerprint in caught.value.message


def test_a_stranger_signature_under_our_name_is_refused() -> None:
    envelope = json.loads(signed(new_key()[0]))
    envelope["signatures"][0]["keyid"] = PUBLIC.fingerprint
    assert code_of(json.dumps(envelope).encode(), [PUBLIC]) == "manifest.signature"


def test_an_unsigned_manifest_is_refused() -> None:
    envelope = json.loads(signed()) | {"signatures": []}
    assert code_of(json.dumps(envelope).encode(), [PUBLIC]) == "manifest.signature"


@pytest.mark.parametrize(
    "change",
    [
        lambda statement: statement["predicate"]["manifest"].update(name="other"),
        lambda statement: statement["predicate"]["manifest"]["entries"].append(
            ["/evil", "f", 0o755, 0, 0, 1, sha256("evil"), None]
        ),
        lambda statement: statement["predicate"]["manifest"]["packages"].append(
            ["evil-1-1.x86_64", "0" * 64]
        ),
        lambda statement: statement["subject"][0].update(name="other"),
        lambda statement: statement["predicate"].update(expires=2**33),
        lambda statement: statement["predicate"].update(serial=8),
    ],
)
def test_a_changed_manifest_is_refused(change: Any) -> None:
    assert code_of(tampered(change), [PUBLIC]) == "manifest.signature"


@pytest.mark.parametrize(
    "envelope",
    [
        b"",
        b"[]",
        b"{}",
        b'{"payload":"","payloadType":"text/plain","signatures":[]}',
        b'{"payload":"!","payloadType":"application/vnd.in-toto+json","signatures":[]}',
        b'{"payload":1,"payload":2,"payloadType":"x","signatures":[]}',
    ],
)
def test_what_is_no_envelope_is_refused(envelope: bytes) -> None:
    assert code_of(envelope, [PUBLIC]) == "manifest.malformed"


def test_a_signed_statement_about_something_else_is_refused() -> None:
    """Our key may sign other things: provenance is no manifest."""
    signer = Signer.from_private(PRIVATE)
    envelope = sign_statement("https://slsa.dev/provenance/v1", {}, {}, signer)
    assert code_of(envelope, [PUBLIC]) == "manifest.malformed"


def test_only_ed25519_keys_sign_and_verify() -> None:
    with pytest.raises(ConfigError):
        signed(private_bytes(generate_private_key(SECP256R1())))
    with pytest.raises(ConfigError):
        signed(b"not a key")
    with pytest.raises(ConfigError):
        verify_manifest(signed(), [HostKey("ssh-rsa", b"abc")])


def test_a_manifest_pins_what_no_package_accounts_for() -> None:
    made = make(Node())
    assert {fact.path for fact in made.entries} == {path for path in UNOWNED if path != "/var/log"}
    assert [nevra for nevra, _ in made.packages] == ["base-1.0-1.noarch", "tools-1.0-1.noarch"]
    assert made.absent == ()


def test_an_image_with_changed_configuration_pins_it() -> None:
    image = Node()
    image.files["/etc/tools.conf"][6] = sha256("option=2\n")
    made = make(image)
    node = Node().boot()
    with pytest.raises(AttestationRefused):
        judge(node, image=replace(made, kernel=manifest().kernel))
    node.files["/etc/tools.conf"][6] = sha256("option=2\n")
    judge(node, image=replace(made, kernel=manifest().kernel))


def test_an_image_with_a_changed_program_gets_no_manifest() -> None:
    image = Node()
    image.files["/usr/sbin/sshd"][6] = sha256("evil")
    with pytest.raises(AttestationRefused) as caught:
        make(image)
    assert [reason.code for reason in caught.value.reasons] == ["file.digest"]
    meant = FileFact(*image.files["/usr/sbin/sshd"][:7], ())
    made = make(image, accepted=(meant,))
    assert "/usr/sbin/sshd" in {fact.path for fact in made.entries}


def test_an_image_with_an_unsigned_package_gets_no_manifest() -> None:
    image = Node()
    image.add_header(blob("tools-unsigned"))
    with pytest.raises(AttestationRefused) as caught:
        make(image)
    assert [reason.code for reason in caught.value.reasons] == ["package.unsigned"]


def test_an_image_that_could_not_be_read_gets_no_manifest() -> None:
    image = Node()
    image.top["unreadable"].append(["/etc/shadow", "EACCES"])
    with pytest.raises(AttestationRefused) as caught:
        make(image)
    assert [reason.code for reason in caught.value.reasons] == ["file.unreadable"]


def test_a_journal_may_grow_while_an_image_is_measured() -> None:
    image, rules = Node(), [VolatileRule("/var/log", VolatileKind.STATE)]
    image.top["unreadable"].append(["/var/log/journal/1/system.journal", "changed"])
    make(image, volatile=rules)
    image.top["unreadable"].append(["/etc/profile", "changed"])
    with pytest.raises(AttestationRefused) as caught:
        make(image, volatile=rules)
    assert [reason.code for reason in caught.value.reasons] == ["file.changed"]


def test_a_manifest_does_not_depend_on_the_order_of_measuring() -> None:
    image, other = Node(), Node()
    other.files = dict(reversed(other.files.items()))
    assert make(image) == make(other)


def test_what_an_image_lacks_may_be_lacking_on_its_nodes() -> None:
    image, node = Node(), Node().boot()
    del image.files["/usr/bin/ping"], node.files["/usr/bin/ping"]
    made = make(image)
    assert made.absent == ("/usr/bin/ping",)
    judge(node, image=replace(made, kernel=manifest().kernel))


def test_nothing_below_a_tmpfs_is_pinned() -> None:
    image = Node()
    image.add_file("/tmp/left-over", sha256("x"))
    assert "/tmp/left-over" not in {fact.path for fact in make(image).entries}


def test_a_rule_of_the_manifest_lets_a_directory_vary() -> None:
    rules = (VolatileRule("/var/cache/thing", VolatileKind.TREE),)
    made = replace(manifest(), volatile=manifest().volatile + rules)
    node = Node().boot()
    node.add_directory("/var/cache/thing")
    node.add_file("/var/cache/thing/data", sha256("x"))
    judge(node, image=made)
    node.files["/var/cache/thing/data"][2] = 0o755
    with pytest.raises(AttestationRefused):
        judge(node, image=made)
