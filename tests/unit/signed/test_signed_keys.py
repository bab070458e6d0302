# SPDX-License-Identifier: GPL-2.0-or-later
"""What pinned keys verify: each kind of key and signature, and beside each its tampered twin."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mock_cloud.errors import ConfigError
from mock_cloud.signed.header import SignedHeader
from mock_cloud.signed.keys import PackageKeys, UnsignedError
from tests.unit.signed.openpgp_maker import (
    BORN,
    ECDSA,
    ED448,
    ED25519,
    EDDSA,
    RSA,
    SHA1,
    SHA3_256,
    SHA256,
    SHA384,
    SHA512,
    Maker,
    mpi,
    packet,
    subpacket,
)

DATA = b"\x8e\xad\xe8\x01 the signed region"
KEY = Maker(RSA)
STRANGER = Maker(EDDSA, seed=9)
DAY = 86400
OLD = int(time.time()) - BORN - DAY
"""A lifetime in seconds that ended yesterday."""
KINDS = [
    (Maker(RSA), 3),
    (Maker(RSA), 4),
    (Maker(EDDSA), 4),
    (Maker(ECDSA), 4),
    (Maker(RSA, version=6), 6),
    (Maker(ED25519, version=6), 6),
    (Maker(ED448, version=6), 6),
]
IDS = [f"{key.algorithm}-{version}" for key, version in KINDS]


def verify(keys: PackageKeys, *bodies: bytes, data: bytes = DATA) -> str:
    signatures = tuple(packet(2, body) for body in bodies)
    return keys.verify(SignedHeader(b"", {}, data, "", signatures))


def pin(*certificates: bytes) -> PackageKeys:
    return PackageKeys.parse(certificates)


@pytest.mark.parametrize(("key", "version"), KINDS, ids=IDS)
@pytest.mark.parametrize("hash_id", [SHA256, SHA384, SHA512, SHA3_256])
def test_a_bare_pinned_key_verifies_signatures_of_each_version(
    key: Maker, version: int, hash_id: int
) -> None:
    signature = key.sign(DATA, version=version, hash_id=hash_id)
    assert verify(pin(key.certificate()), signature) == key.fingerprint.hex()


@pytest.mark.parametrize(("key", "version"), KINDS, ids=IDS)
def test_other_data_another_time_or_another_key_is_refused(key: Maker, version: int) -> None:
    keys = pin(key.certificate())
    good = key.sign(DATA, version=version)
    with pytest.raises(UnsignedError, match="is wrong"):
        verify(keys, good, data=DATA + b"x")
    for at in range(len(good)):
        for bit in (0x01, 0x80):
            evil = good[:at] + bytes((good[at] ^ bit,)) + good[at + 1 :]
            try:
                verify(keys, evil)
            except UnsignedError:
                continue
            # Hints name the issuer, how long an integer is says nothing of its value.
            assert version != 3 or at >= 17
            assert _is_hint(evil, good, version)
    with pytest.raises(UnsignedError, match="which is not pinned"):
        verify(pin(STRANGER.certificate()), good)
    with pytest.raises(UnsignedError, match="is wrong"):
        other = Maker(key.algorithm, version=key.version, seed=7, bits=3072)
        named = other.sign(DATA, version=version, hints=subpacket(16, key.key_id))
        verify(keys, named[:7] + key.key_id + named[15:] if version == 3 else named)


def _is_hint(evil: bytes, good: bytes, version: int) -> bool:
    """Whether they differ only in hints and in how an integer is written: nothing covers those."""
    wide = 4 if version == 6 else 2
    if version == 3:
        return evil[:17] == good[:17]
    size = int.from_bytes(good[4 : 4 + wide], "big")
    return evil[: 4 + wide + size] == good[: 4 + wide + size]


@pytest.mark.parametrize(("key", "version"), KINDS, ids=IDS)
def test_sha1_text_and_other_kinds_of_signatures_are_refused(key: Maker, version: int) -> None:
    keys = pin(key.certificate())
    if key.algorithm in (RSA, ECDSA) and version != 6:
        with pytest.raises(UnsignedError, match="SHA-1"):
            verify(keys, key.sign(DATA, version=version, hash_id=SHA1))
    for kind in (0x01, 0x02, 0x13, 0x18, 0x50):
        with pytest.raises(UnsignedError, match="not a binary-document signature"):
            verify(keys, key.sign(DATA, version=version, kind=kind))


def test_integers_may_start_with_zeros_and_be_no_larger_than_the_key() -> None:
    """Some signers pad; s + n would be the same number to a verifier that only computes."""
    for key in (Maker(RSA), Maker(ECDSA), Maker(EDDSA)):
        keys = pin(key.certificate())
        verify(keys, key.sign(DATA, zeros=3))
    good = KEY.sign(DATA)
    keys = pin(KEY.certificate())
    value = int.from_bytes(good[-256:], "big")
    modulus = KEY.private.public_key().public_numbers().n  # type: ignore[union-attr]
    head = good[: good.index(mpi(value))]
    verify(keys, head + mpi(value))
    for evil in (0, 1, value + modulus, value + (modulus << 64), modulus - value):
        with pytest.raises(UnsignedError, match="is wrong"):
            verify(keys, head + mpi(evil))
    with pytest.raises(UnsignedError, match="is wrong"):
        verify(keys, good + b"\0")


def test_a_signature_may_expire_and_has_nothing_critical_that_is_unknown() -> None:
    keys = pin(KEY.certificate())
    verify(keys, KEY.sign(DATA, more=subpacket(3, (OLD + 2 * DAY).to_bytes(4, "big"))))
    with pytest.raises(UnsignedError, match="the signature expired at 20"):
        verify(keys, KEY.sign(DATA, more=subpacket(3, OLD.to_bytes(4, "big"))))
    verify(keys, KEY.sign(DATA, more=subpacket(100, b"x")))
    for critical in (0x80 | 100, 0x80 | 20):  # unknown; a notation
        with pytest.raises(UnsignedError, match="critical"):
            verify(keys, KEY.sign(DATA, more=subpacket(critical, b"x")))


def test_a_salt_is_as_long_as_its_hash_wants() -> None:
    key = Maker(ED25519, version=6)
    for salt in (0, 15, 17, 32):
        with pytest.raises(UnsignedError, match="salt"):
            verify(pin(key.certificate()), key.sign(DATA, salt=salt))


def test_a_key_makes_signatures_of_its_own_version() -> None:
    old, new = Maker(RSA), Maker(RSA, version=6)
    for key, version in ((old, 6), (new, 4), (new, 3)):
        with pytest.raises(UnsignedError, match="another algorithm or version"):
            verify(pin(key.certificate()), key.sign(DATA, version=version))


def test_a_second_signature_can_be_the_good_one() -> None:
    """rpm 6 signs with several keys: one that is pinned is enough, and is what is named."""
    keys = pin(KEY.certificate())
    good, other, wrong = KEY.sign(DATA), STRANGER.sign(DATA), KEY.sign(b"other")
    future_kind = bytes((5,)) + good[1:]
    verify(keys, other, wrong, future_kind, good)
    with pytest.raises(UnsignedError, match="is wrong"):
        verify(keys, wrong, other)
    with pytest.raises(UnsignedError, match=f"{STRANGER.key_id.hex()}, which is not pinned"):
        verify(keys, other)


def test_no_more_signatures_are_tried_than_anybody_makes() -> None:
    """Each costs the hash of a header, which may have 32 MiB."""
    keys = pin(KEY.certificate())
    good, wrong = KEY.sign(DATA), KEY.sign(b"other")
    verify(keys, *[wrong] * 15, good)
    with pytest.raises(UnsignedError, match="more than 16 signatures"):
        verify(keys, *[wrong] * 16, good)
    flood = b"".join(packet(2, one) for one in (*[wrong] * 16, good))
    with pytest.raises(UnsignedError, match="more than 16 signatures"):
        keys.verify(SignedHeader(b"", {}, DATA, "", (flood,)))


@pytest.mark.parametrize("hash_id", [SHA1, SHA256])
def test_what_a_key_says_of_itself_need_not_be_strong(hash_id: int) -> None:
    """CentOS 9 and RHEL 9 have keys with SHA-1; who pins such a file means that key."""
    keys = pin(KEY.certificate(KEY.state(hash_id=hash_id)))
    verify(keys, KEY.sign(DATA))
    expired = KEY.certificate(KEY.state(hash_id=hash_id, lifetime=OLD))
    with pytest.raises(ConfigError, match=r"nothing can be verified .* expired at 20") as caught:
        pin(expired)
    assert "present key" in str(caught.value.hint)


def test_a_file_of_no_use_is_named() -> None:
    cases = (
        (Maker(RSA, bits=1024).certificate(), "RSA of 1024 bits"),
        (packet(6, b"\x04" + bytes(4) + b"\x11" + mpi(5) * 4), "of the kind DSA"),
        (packet(6, b"\x04" + bytes(4) + b"\x63"), "of the kind 99"),
        (packet(6, b"\x03" + bytes(40)), "a key of version 3"),
        (KEY.certificate()[:-1], "too early"),
        (packet(13, b"nobody"), "no public key"),
        (packet(6, KEY.body + b"x"), "more than the key"),
    )
    for data, why in cases:
        with pytest.raises(ConfigError, match=f"^KEYS: .*{why}"):
            PackageKeys.parse([KEY.certificate(), data], ["GOOD", "KEYS"])
        keys = PackageKeys.parse([KEY.certificate(), data], ["GOOD", "KEYS"], any_will_do=True)
        assert KEY.fingerprint.hex() in keys.certificates
        with pytest.raises(ConfigError, match=why):
            PackageKeys.parse([data], ["KEYS"], any_will_do=True)


def test_a_usable_key_beside_one_of_no_use_is_enough_for_a_file() -> None:
    """RHEL 10 has a key in its file that only its own rpm can use."""
    data = packet(6, b"\x06" + bytes(4) + b"\x1f" + bytes(60)) + KEY.certificate()
    keys = pin(data)
    verify(keys, KEY.sign(DATA))
    with pytest.raises(UnsignedError, match="not pinned"):
        verify(keys, STRANGER.sign(DATA))


def revocation(key: Maker, by: Maker, *, hash_id: int = SHA256) -> bytes:
    hints = subpacket(16, key.key_id)
    return packet(2, by.sign(key.hashed, kind=0x20, hash_id=hash_id, hints=hints))


def test_a_revoked_key_is_refused_and_who_else_says_so_does_not_count() -> None:
    for hash_id in (SHA1, SHA256):
        with pytest.raises(ConfigError, match="is revoked"):
            pin(KEY.certificate(revocation(KEY, KEY, hash_id=hash_id), KEY.state()))
        with pytest.raises(ConfigError, match="is revoked"):
            pin(KEY.certificate(), KEY.certificate(revocation(KEY, KEY, hash_id=hash_id)))
    verify(pin(KEY.certificate(revocation(KEY, STRANGER))), KEY.sign(DATA))


def test_files_of_one_key_count_together_in_any_order() -> None:
    """A key whose life was prolonged, beside the file from before; a stranger can't prolong it."""
    brief = KEY.certificate(KEY.state(lifetime=OLD))
    longer = KEY.certificate(KEY.state(lifetime=OLD + 30 * DAY, created=BORN + 50))
    for files in ((brief, longer), (longer, brief), (longer,)):
        keys = PackageKeys.parse(files)
        assert verify(keys, KEY.sign(DATA)) == KEY.fingerprint.hex()
        assert len(keys.certificates) == 1
    assert PackageKeys.parse([brief, longer]).fingerprint == (
        PackageKeys.parse([longer, brief]).fingerprint
    )
    forged = replace(STRANGER, seed=3)
    evil = KEY.certificate(
        packet(13, b"somebody"),
        packet(2, forged.sign(KEY.hashed, kind=0x13, created=BORN + 90, hints=b"")),
    )
    with pytest.raises(ConfigError, match="expired at"):
        pin(brief, evil)


SUBKEY = Maker(EDDSA, seed=5)


def test_a_subkey_signs_for_its_certificate() -> None:
    keys = pin(KEY.certificate(KEY.state(), KEY.bind(SUBKEY)))
    assert verify(keys, SUBKEY.sign(DATA)) == KEY.fingerprint.hex()
    merged = pin(KEY.certificate(), KEY.certificate(KEY.bind(SUBKEY)))
    assert verify(merged, SUBKEY.sign(DATA)) == KEY.fingerprint.hex()


NOT_BOUND = {
    "put there by anybody": (packet(14, SUBKEY.body), "not pinned"),
    "bound by a stranger": (STRANGER.bind(SUBKEY), "not pinned"),
    "for encryption": (KEY.bind(SUBKEY, flags=12), "not pinned"),
    "somebody else's, who does not know": (KEY.bind(SUBKEY, back=False), "not shown to be"),
    "by SHA-1": (KEY.bind(SUBKEY, hash_id=SHA1, back_hash=SHA256), "not shown to be"),
    "who agreed by SHA-1": (KEY.bind(SUBKEY, back_hash=SHA1), "not shown to be"),
    "expired": (KEY.bind(SUBKEY, lifetime=OLD), "expired at 20"),
    "revoked": (
        KEY.bind(SUBKEY) + packet(2, KEY.sign(KEY.hashed + SUBKEY.hashed, kind=0x28)),
        "is revoked",
    ),
    "of a revoked key": (KEY.bind(SUBKEY) + packet(6, KEY.body) + revocation(KEY, KEY), "revoked"),
    "of an expired key": (KEY.bind(SUBKEY) + KEY.state(lifetime=OLD), "expired at 20"),
}


@pytest.mark.parametrize("what", NOT_BOUND)
def test_a_subkey_that_may_not_sign_is_refused(what: str) -> None:
    more, why = NOT_BOUND[what]
    keys = pin(STRANGER.certificate() + KEY.certificate(more))
    with pytest.raises(UnsignedError, match=why):
        verify(keys, SUBKEY.sign(DATA))
    verify(keys, STRANGER.sign(DATA))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_no_other_exception_escapes_from_spoilt_packets(data: st.DataObject) -> None:
    certificate = KEY.certificate(KEY.state(), KEY.bind(SUBKEY))
    spoilt = bytearray(data.draw(st.sampled_from([certificate, packet(2, SUBKEY.sign(DATA))])))
    for at in data.draw(st.lists(st.integers(0, len(spoilt) - 1), min_size=1, max_size=4)):
        spoilt[at] = data.draw(st.integers(0, 255))
    try:
        keys = pin(bytes(spoilt))
    except ConfigError:
        keys = pin(certificate)
    with contextlib.suppress(UnsignedError):
        keys.verify(SignedHeader(b"", {}, DATA, "", (bytes(spoilt),)))
