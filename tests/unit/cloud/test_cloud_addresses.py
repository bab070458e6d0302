# SPDX-License-Identifier: GPL-2.0-or-later
"""Addresses as JSON: they come back as they were, and nothing else comes back."""

from __future__ import annotations

import json

import pytest

from mock_cloud.cloud.addresses import dump_address, parse_address
from mock_cloud.model import NodeAddress, UserKeys
from mock_cloud.sshkeys import make_key_pair

ADDRESS = NodeAddress(
    "2001:db8::1",
    2222,
    "root",
    make_key_pair().public,
    ("ssh", "-W", "[2001:db8::1]:2222", "gate"),
    UserKeys(("/home/u/.ssh/id_rsa",), whole_agent=False),
)


def test_it_comes_back_as_it_was() -> None:
    assert parse_address(json.loads(json.dumps(dump_address(ADDRESS)))) == ADDRESS
    plain = NodeAddress("h", 22, "root", ADDRESS.host_key)
    assert parse_address(json.loads(json.dumps(dump_address(plain)))) == plain


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
        parse_address({**dump_address(ADDRESS), field: value})


def test_an_ipv6_address_is_shown_in_brackets() -> None:
    assert str(ADDRESS) == "root@[2001:db8::1]:2222"
