# SPDX-License-Identifier: GPL-2.0-or-later
"""What the journal keeps of a lent machine: enough to reach it when its remote's file is gone."""

from __future__ import annotations

import json
from dataclasses import dataclass

from mock_cloud.cloud.addresses import dump_address, parse_address
from mock_cloud.errors import ConfigError
from mock_cloud.model import NodeAddress
from mock_cloud.wire.json_strict import load_json


@dataclass(frozen=True, slots=True)
class Place:
    """One host by its name in the remote's file, and the way to it when it was leased."""

    name: str
    address: NodeAddress


@dataclass(frozen=True, slots=True)
class Handle:
    """A lease's host is the last of `places`; the claim ends by itself at `until_unix`.

    The other places did not answer whether they took our claim; they are told that it is over.
    """

    places: tuple[Place, ...]
    until_unix: float

    def __str__(self) -> str:
        places = [[place.name, dump_address(place.address)] for place in self.places]
        return json.dumps({"until": self.until_unix, "places": places})

    @classmethod
    def parse(cls, text: str) -> Handle:
        """The handle in the journal's text; none was recorded in an empty one. ConfigError."""
        try:
            return _parse(load_json(text)) if text else cls((), 0.0)
        except (ValueError, OverflowError) as error:
            raise ConfigError(f"the journal's handle of a host is damaged: {error}") from error


def _parse(raw: object) -> Handle:
    if not isinstance(raw, dict) or set(raw) != {"until", "places"}:
        raise ValueError("not a handle")
    until, places = raw["until"], raw["places"]
    if type(until) not in (int, float) or not isinstance(places, list):
        raise ValueError("not a handle")
    return Handle(tuple(_parse_place(item) for item in places), float(until))


def _parse_place(item: object) -> Place:
    if not isinstance(item, list) or len(item) != 2 or not isinstance(item[0], str):
        raise ValueError("not a host")
    return Place(item[0], parse_address(item[1]))


def host_name(handle: str) -> str:
    """How the remote's file calls the host of a lease; empty if it has none. ConfigError."""
    places = Handle.parse(handle).places
    return places[-1].name if places else ""
