# SPDX-License-Identifier: GPL-2.0-or-later
"""Addresses of nodes as JSON values, for the journal and for handles, and strict reading back."""

from __future__ import annotations

from collections.abc import Mapping

from mock_cloud.model import HostKey, NodeAddress, UserKeys


def dump_address(address: NodeAddress) -> dict[str, object]:
    """The address with JSON's types. Of keys of the user's, it has the names only."""
    keys = address.user_keys
    return {
        "host": address.host,
        "port": address.port,
        "user": address.user,
        "host_key": str(address.host_key),
        "proxy": list(address.proxy),
        "user_keys": None
        if keys is None
        else {"files": list(keys.files), "whole_agent": keys.whole_agent},
    }


def parse_address(raw: object) -> NodeAddress:
    """The address in what `dump_address` made. ValueError."""
    fields = _fields(raw, {"host", "port", "user", "host_key", "proxy", "user_keys"})
    port = fields["port"]
    if type(port) is not int or not 0 < port < 65536:
        raise ValueError("not a port")
    return NodeAddress(
        _text(fields["host"]),
        port,
        _text(fields["user"]),
        HostKey.parse(_text(fields["host_key"])),
        _texts(fields["proxy"]),
        _parse_keys(fields["user_keys"]),
    )


def _parse_keys(raw: object) -> UserKeys | None:
    if raw is None:
        return None
    fields = _fields(raw, {"files", "whole_agent"})
    whole = fields["whole_agent"]
    if type(whole) is not bool:
        raise ValueError("not true or false")
    return UserKeys(_texts(fields["files"]), whole)


def _fields(raw: object, names: set[str]) -> Mapping[str, object]:
    if not isinstance(raw, dict) or set(raw) != names:
        raise ValueError(f"not an object with {' '.join(sorted(names))}")
    return raw


def _texts(raw: object) -> tuple[str, ...]:
    if not isinstance(raw, list):
        raise ValueError("not a list")
    return tuple(_text(item) for item in raw)


def _text(raw: object) -> str:
    if not isinstance(raw, str):
        raise ValueError("not a string")
    return raw
