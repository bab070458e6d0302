# SPDX-License-Identifier: GPL-2.0-or-later
"""Signed texts: what is returned is what was signed, whatever stands around it."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mock_cloud.signed.cleartext import read_message
from mock_cloud.signed.keys import PackageKeys, UnsignedError
from mock_cloud.signed.openpgp import OpenPgpError
from tests.unit.signed.openpgp_maker import EDDSA, Maker, packet

KEY = Maker(EDDSA)
KEYS = PackageKeys.parse([KEY.certificate()])
TEXT = "Origin: Lab\n- dashed\n-----BEGIN\nlast  \n\n"


def clear(
    text: str,
    *,
    kind: int = 1,
    by: Maker = KEY,
    head: str = "Hash: SHA256\n",
    tag: int = 2,
    before: bytes = b"",
) -> str:
    lines = [line.rstrip(" \t\r") for line in text.split("\n")]
    signature = before + packet(tag, by.sign("\r\n".join(lines).encode(), kind=kind))
    escaped = "\n".join(f"- {line}" if line.startswith("-") else line for line in text.split("\n"))
    armoured = base64.encodebytes(signature).decode()
    return (
        f"-----BEGIN PGP SIGNED MESSAGE-----\n{head}\n{escaped}\n"
        f"-----BEGIN PGP SIGNATURE-----\n\n{armoured}=abcd\n-----END PGP SIGNATURE-----\n"
    )


def verify(message: str) -> str:
    return KEYS.verify_message(message.encode())[1].decode()


def test_the_signed_text_comes_back_without_escapes() -> None:
    signed = "Origin: Lab\n- dashed\n-----BEGIN\nlast\n\n"
    for message in (clear(TEXT), clear(TEXT).replace("\n", "\r\n"), clear(TEXT, head="")):
        assert verify(f"before\n{message}\nafter\n") == signed


EVIL = {
    "a letter": clear(TEXT).replace("Lab", "Lub"),
    "a line": clear(TEXT).replace("Origin", "More: x\nOrigin"),
    "a line less": clear(TEXT).replace("Origin: Lab\n", ""),
    "a header that looks like text": clear(TEXT, head="Hash: SHA256\nOrigin: Evil\n"),
    "a line that is not escaped": clear(TEXT).replace("- -----BEGIN", "-----BEGIN"),
    "another kind of signature": clear(TEXT, kind=0),
    "a stranger's": clear(TEXT, by=Maker(EDDSA, seed=2)),
    "no signature": clear(TEXT).partition("-----BEGIN PGP SIGNATURE")[0],
    "no end": clear(TEXT).partition("-----END")[0],
    "a key where the signature should be": clear(TEXT, tag=6),
    "a key before the signature": clear(TEXT, before=KEY.certificate()),
}


@pytest.mark.parametrize("what", EVIL)
def test_a_tampered_message_is_refused(what: str) -> None:
    with pytest.raises(UnsignedError):
        verify(EVIL[what])


def test_of_two_messages_the_first_counts_alone() -> None:
    evil = clear("Origin: Evil", by=Maker(EDDSA, seed=2))
    assert verify(clear("good") + evil) == "good"
    with pytest.raises(UnsignedError):
        verify(evil + clear("good"))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_no_other_exception_escapes(data: st.DataObject) -> None:
    spoilt = bytearray(clear(TEXT).encode())
    for at in data.draw(st.lists(st.integers(0, len(spoilt) - 1), min_size=1, max_size=4)):
        spoilt[at] = data.draw(st.sampled_from(b"\n- :=A\xff\0"))
    try:
        read_message(bytes(spoilt))
    except OpenPgpError:
        return
    try:
        _, text = KEYS.verify_message(bytes(spoilt))
    except UnsignedError:
        return
    assert text == read_message(clear(TEXT).encode())[0]
