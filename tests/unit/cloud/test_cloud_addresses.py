# SPDX-License-Identifier: GPL-2.0-or-later
"""Addresses as JSON: they come back as they were, and nothing else comes back."""

from __future__ import annotations

import pytest

from mock_cloud.model import NodeAddress, UserKeys
from mock_cloud.sshkeys import make_key_pair
from mock_cloud.wire.decode import decode, decode_bytes, encode, to_json

ADDRESS = NodeAddress(
    "2001:db8::1",
    2222,
    "root",
    make_key_pair().public,
    ("ssh", "-W", "[2001:db8::1]:2222", "gate"),
    UserKeys(("/home/u/.ssh/id_rsa",), whole_agent=False),
)


def test_it_comes_back_as_it_was() -> None:
    assert decode_bytes(NodeAddress, to_json(ADDRESS)) == ADDRESS
    plain = NodeAddress("h", 22, "root", ADDRESS.host_key)
    assert decode_bytes(NodeAddress, to_json(plain)) == plain


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("port", "22"),
        ("port", True),
        ("port", 70000),
        ("host", None),
        ("host_key", "ssh-ed25519"),
        ("proxy", "ssh gate"),
        ("proxy", [1]),
        ("user_keys", {"files": []}),
        ("user_keys", {"files": [], "whole_agent": 1}),
        ("more", 1),
    ],
)
def test_anything_else_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=r"not|key"):
        decode(NodeAddress, {**encode(ADDRESS), field: value})


def test_an_ipv6_address_is_shown_in_brackets() -> None:
    assert str(ADDRESS) == "root@[2001:db8::1]:2222"
