# SPDX-License-Identifier: GPL-2.0-or-later
"""Signed manifests over time: expiry, maximal age, several signers, revocations."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from mock_cloud.attest.envelope import Signer, add_signature
from mock_cloud.attest.manifest import ImageManifest
from mock_cloud.attest.revocation import (
    Revocation,
    SerialRange,
    sign_revocation,
    verify_revocation,
)
from mock_cloud.attest.validity import (
    Acceptance,
    SignedManifest,
    Validity,
    accept_manifest,
    sign_manifest,
)
from mock_cloud.errors import AttestationRefused, ConfigError
from mock_cloud.sshkeys import make_key_pair

DAY = 86400
NOW = 1_800_000_000
MANIFEST = ImageManifest("node-1", "x86_64", "now", (), ())


def new_signer() -> Signer:
    return Signer.from_private(make_key_pair().private.reveal())


ALICE, BOB, CAROL, MALLORY = (new_signer() for _ in range(4))
VALID = Validity("node", NOW - DAY, NOW - DAY, NOW + 30 * DAY)


def envelope(*signers: Signer, valid: Validity = VALID) -> bytes:
    first, *others = signers
    made = sign_manifest(MANIFEST, valid, first)
    for one in others:
        made = add_signature(made, one)
    return made


def wanted(*signers: Signer, **rules: Any) -> Acceptance:
    return Acceptance(tuple(one.public for one in signers), **rules)


def accept(data: bytes, rules: Acceptance, now: float = NOW) -> SignedManifest:
    return accept_manifest(data, rules, now)


def code_of(data: bytes, rules: Acceptance, now: float = NOW) -> str:
    with pytest.raises(AttestationRefused) as caught:
        accept(data, rules, now)
    return caught.value.reasons[0].code


def test_a_manifest_holds_from_its_signing_to_the_second_before_its_expiry() -> None:
    for now in (VALID.issued_unix, VALID.expires_unix - 1):
        assert accept(envelope(ALICE), wanted(ALICE), now).validity == VALID
    assert code_of(envelope(ALICE), wanted(ALICE), VALID.expires_unix) == "manifest.expired"


def test_a_manifest_from_the_future_says_that_the_clock_is_wrong() -> None:
    accept(envelope(ALICE), wanted(ALICE), VALID.issued_unix - DAY)  # time zones, small errors
    with pytest.raises(ConfigError, match="clock"):
        accept(envelope(ALICE), wanted(ALICE), VALID.issued_unix - DAY - 1)


def test_a_remote_may_ask_for_a_younger_one() -> None:
    accept(envelope(ALICE), wanted(ALICE, max_age_s=DAY))
    assert code_of(envelope(ALICE), wanted(ALICE, max_age_s=DAY - 1)) == "manifest.too-old"


@pytest.mark.parametrize(
    "signers", [(ALICE,), (ALICE, MALLORY), (BOB,)], ids=["one", "one-and-a-stranger", "other"]
)
def test_two_signatures_are_two_of_trusted_keys(signers: tuple[Signer, ...]) -> None:
    rules = wanted(ALICE, BOB, CAROL, threshold=2)
    assert code_of(envelope(*signers), rules) == "manifest.threshold"
    assert accept(envelope(ALICE, CAROL), rules).signers == {
        ALICE.public.fingerprint,
        CAROL.public.fingerprint,
    }


def test_a_signature_counts_once() -> None:
    twice = json.loads(envelope(ALICE))
    twice["signatures"] *= 2
    rules = wanted(ALICE, BOB, threshold=2)
    assert code_of(json.dumps(twice).encode(), rules) == "manifest.malformed"
    assert code_of(envelope(ALICE, ALICE), rules) == "manifest.threshold"


def test_one_forged_signature_spoils_a_good_one() -> None:
    forged = json.loads(envelope(ALICE, BOB))
    forged["signatures"][1]["sig"] = base64.b64encode(bytes(64)).decode()
    assert code_of(json.dumps(forged).encode(), wanted(ALICE, BOB)) == "manifest.signature"


@pytest.mark.parametrize(
    "revoked",
    [
        Revocation(manifests=(MANIFEST.sha256,)),
        Revocation(serials=(SerialRange("node", "x86_64", 0, VALID.serial),)),
        Revocation(serials=(SerialRange("node", "x86_64", VALID.serial, VALID.serial),)),
        Revocation(keys=(ALICE.public.fingerprint,)),
    ],
    ids=["digest", "up-to", "just", "key"],
)
def test_what_is_revoked_is_refused(revoked: Revocation) -> None:
    rules = wanted(ALICE, revocations=(revoked,))
    assert code_of(envelope(ALICE), rules) == "manifest.revoked"


@pytest.mark.parametrize(
    "revoked",
    [
        Revocation(manifests=("0" * 64,)),
        Revocation(serials=(SerialRange("node", "x86_64", 0, VALID.serial - 1),)),
        Revocation(serials=(SerialRange("node", "aarch64", 0, VALID.serial),)),
        Revocation(serials=(SerialRange("other", "x86_64", 0, VALID.serial),)),
        Revocation(keys=(BOB.public.fingerprint,)),
    ],
    ids=["digest", "serial", "arch", "image", "key"],
)
def test_what_is_not_revoked_is_not(revoked: Revocation) -> None:
    accept(envelope(ALICE), wanted(ALICE, BOB, revocations=(revoked,)))


def test_a_revoked_key_counts_no_more_among_several() -> None:
    revoked = Revocation(keys=(BOB.public.fingerprint,))
    rules = wanted(ALICE, BOB, CAROL, threshold=2, revocations=(revoked,))
    assert code_of(envelope(ALICE, BOB), rules) == "manifest.threshold"
    accept(envelope(ALICE, BOB, CAROL), rules)


def test_a_revocation_comes_back_as_it_was() -> None:
    made = Revocation(
        ("ab" * 32,), (SerialRange("n", "x86_64", 1, 2),), (BOB.public.fingerprint,), "why", 5
    )
    assert verify_revocation(sign_revocation(made, ALICE), [BOB.public, ALICE.public]) == made
    with pytest.raises(ConfigError):
        verify_revocation(sign_revocation(made, MALLORY), [ALICE.public])


def test_a_manifest_is_no_revocation_and_the_other_way_round() -> None:
    revocation = sign_revocation(Revocation(manifests=(MANIFEST.sha256,)), ALICE)
    assert code_of(revocation, wanted(ALICE)) == "manifest.malformed"
    with pytest.raises(AttestationRefused):
        verify_revocation(envelope(ALICE), [ALICE.public])


@pytest.mark.parametrize(
    "valid",
    [
        replace(VALID, expires_unix=VALID.issued_unix),
        replace(VALID, image=""),
        replace(VALID, serial=-1),
        replace(VALID, expires_unix=10**400),
    ],
    ids=["no-time", "no-image", "negative", "huge"],
)
def test_a_validity_that_makes_no_sense_is_malformed(valid: Validity) -> None:
    assert code_of(envelope(ALICE, valid=valid), wanted(ALICE)) == "manifest.malformed"


def test_the_warning_comes_two_weeks_before_or_after_three_quarters() -> None:
    assert Validity("n", 1, 0, 100 * DAY).warns_from_unix == 86 * DAY
    assert Validity("n", 1, 0, 4 * DAY).warns_from_unix == 3 * DAY
