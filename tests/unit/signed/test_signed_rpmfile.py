# SPDX-License-Identifier: GPL-2.0-or-later
"""A package's payload is the one whose digests are signed: of rpm 4 and of rpm 6."""

from __future__ import annotations

import hashlib

import pytest

from mock_cloud.signed.keys import PackageKeys, UnsignedError
from mock_cloud.signed.rpmfile import verify_rpm
from mock_cloud.wire.rpmheader import HeaderError, Tag
from tests.unit.signed.openpgp_maker import EDDSA, Maker
from tests.unit.signed.package_maker import KEY, Entry, numbers, package_file, text, texts

KEYS = PackageKeys.parse([KEY.certificate()])
PAYLOAD = b"070701 payload"


def digest(name: str, payload: bytes = PAYLOAD) -> str:
    return hashlib.new(name, payload).hexdigest()


def entries(payload: bytes = PAYLOAD) -> dict[str, list[Entry]]:
    """By what writes such."""
    sha256 = texts(Tag.PAYLOADSHA256, [digest("sha256", payload)])
    sha512 = text(Tag.PAYLOADSHA512, digest("sha512", payload))
    sha3 = text(Tag.PAYLOADSHA3_256, digest("sha3_256", payload))
    return {
        "rpm 4": [sha256, numbers(Tag.PAYLOADSHA256ALGO, [8])],
        "rpm 6, format 4": [sha256, numbers(Tag.PAYLOADSHA256ALGO, [8]), sha512],
        "rpm 6": [sha256, sha512, sha3],
        "SHA-512 alone": [sha512],
        "SHA-3 alone": [sha3],
    }


@pytest.mark.parametrize("kind", entries())
def test_the_payload_is_held_to_each_digest(kind: str) -> None:
    good = package_file("a", PAYLOAD, entries()[kind])
    assert verify_rpm(good, KEYS).name == "a"
    for evil in (good[:-1], good[:-1] + b"x", good + b"\0"):
        with pytest.raises(HeaderError, match="the payload is not the one"):
            verify_rpm(evil, KEYS)


def test_a_signature_that_was_added_to_a_built_package_counts() -> None:
    """CentOS and RHEL sign so."""
    good = package_file("a", PAYLOAD, entries()["rpm 4"], is_added=True)
    assert verify_rpm(good, KEYS).name == "a"
    stranger = package_file("a", PAYLOAD, entries()["rpm 4"], Maker(EDDSA, seed=8), is_added=True)
    with pytest.raises(UnsignedError, match="not pinned"):
        verify_rpm(stranger, KEYS)
    with pytest.raises(HeaderError):
        verify_rpm(good.replace(b"noarch", b"noarck"), KEYS)


def test_one_wrong_digest_among_good_ones_is_refused() -> None:
    for number in range(3):
        mixed = entries()["rpm 6"]
        mixed[number] = entries(b"other")["rpm 6"][number]
        with pytest.raises(HeaderError, match="the payload is not the one"):
            verify_rpm(package_file("a", PAYLOAD, mixed), KEYS)


def test_a_payload_without_a_signed_digest_is_refused() -> None:
    with pytest.raises(HeaderError, match="no digest of the payload"):
        verify_rpm(package_file("a", PAYLOAD, []), KEYS)
    weak = [texts(Tag.PAYLOADSHA256, [digest("md5")]), numbers(Tag.PAYLOADSHA256ALGO, [1])]
    with pytest.raises(HeaderError, match="kind 1, not sha256"):
        verify_rpm(package_file("a", PAYLOAD, weak), KEYS)


def test_digests_that_nobody_signed_are_not_looked_at() -> None:
    evil = package_file("a", PAYLOAD, entries()["rpm 6"])
    changed = evil.replace(digest("sha512").encode(), digest("sha512", b"x").encode())
    with pytest.raises(UnsignedError):
        verify_rpm(changed, KEYS)
