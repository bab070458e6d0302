# SPDX-License-Identifier: GPL-2.0-or-later
"""What the journal keeps of a lent machine: enough to reach it when its remote's file is gone."""

from __future__ import annotations

import json
from dataclasses import dataclass

from mock_cloud.cloud.addresses import dump_address, parse_address
from mock_cloud.errors import ConfigError
from mock_cloud.model import NodeAddress


@dataclass(frozen=True, slots=True)
class Place:
    """One host by its name in the remote's file, and the way to it when it was leased."""

    name: str
    address: NodeAddress


def dump_handle(places: tuple[Place, ...]) -> str:
    """The handle of a lease: its host is the last of `places`.

    The others did not answer whether they took our claim; they are told that it is over.
    """
    return json.dumps([[place.name, dump_address(place.address)] for place in places])


def parse_handle(handle: str) -> tuple[Place, ...]:
    """The places in a handle, none in an empty one. ConfigError."""
    try:
        return tuple(_parse_place(item) for item in json.loads(handle or "[]"))
    except (ValueError, TypeError) as error:
        raise ConfigError(f"the journal's handle of a host is damaged: {error}") from error


def _parse_place(item: object) -> Place:
    if not isinstance(item, list) or len(item) != 2 or not isinstance(item[0], str):
        raise ValueError("not a host")
    return Place(item[0], parse_address(item[1]))


def host_name(handle: str) -> str:
    """How the remote's file calls the host of a lease; empty if it has none. ConfigError."""
    places = parse_handle(handle)
    return places[-1].name if places else ""
