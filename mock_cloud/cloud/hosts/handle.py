# SPDX-License-Identifier: GPL-2.0-or-later
"""What the journal keeps of a lent machine: enough to reach it when its remote's file is gone."""

from __future__ import annotations

from dataclasses import field

from mock_cloud.errors import ConfigError
from mock_cloud.model import NodeAddress
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.decode import decode_bytes, to_json


@dataclass(frozen=True, slots=True)
class HostPlace:
    """One host by its name in the remote's file, and the way to it when it was leased."""

    name: str
    address: NodeAddress


@dataclass(frozen=True, slots=True)
class Handle:
    """A lease's host is the last of `places`; the claim ends by itself at `until_unix`.

    The other places did not answer whether they took our claim; they are told that it is over.
    """

    places: tuple[HostPlace, ...]
    until_unix: float = field(metadata={"json": "until"})

    def __str__(self) -> str:
        return to_json(self).decode()


def parse_handle(text: str) -> Handle:
    """The handle in the journal's text; none was recorded in an empty one. ConfigError."""
    try:
        return decode_bytes(Handle, text) if text else Handle((), 0.0)
    except ValueError as error:
        raise ConfigError(f"the journal's handle of a host is damaged: {error}") from error


def host_name(handle: str) -> str:
    """How the remote's file calls the host of a lease; empty if it has none. ConfigError."""
    places = parse_handle(handle).places
    return places[-1].name if places else ""
