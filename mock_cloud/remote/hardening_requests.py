# SPDX-License-Identifier: GPL-2.0-or-later
"""What a node is told for its own safety, as requests that travel together.

Each is answered by itself, but none waits for another's answer: on a long line every
round trip counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import field
from typing import Any, Final

from mock_cloud.errors import MockCloudError, RemoteCommandError
from mock_cloud.model import KeyPair, Secret
from mock_cloud.remote.channel import AgentChannel
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.decode import encode
from mock_cloud.wire.orders import DeadmanOrder, Ending

_ANSWER_S: Final = 60.0
_NOTHING: Final = Secret(b"")


@dataclass(frozen=True, slots=True)
class Request:
    """One operation. `needed`: unless the node does it, nothing else may be asked of it."""

    operation: str
    keys: Mapping[str, Any]
    body: Secret = field(default=_NOTHING, repr=False)
    needed: bool = True


def arm_timer(lease_id: str, life_s: int, grace_s: int, *, power_off: bool) -> Request:
    """The node ends after `life_s`, or once it has heard of nobody for `grace_s`.

    Its end is `power_off`, or else what a lent machine gets: all that we put there is removed.
    """
    ending = Ending.POWEROFF if power_off else Ending.WIPE
    return Request("lease", encode(DeadmanOrder(lease_id, life_s, grace_s, ending)))


def replace_host_key(pair: KeyPair) -> Request:
    """From the next connection on, the node answers with this key."""
    keys = {"public": f"{pair.public}\n"}
    return Request("host_key", keys, pair.private, needed=False)


def close_metadata() -> Request:
    """No job of the node reaches the metadata service of its cloud; else none starts."""
    return Request("close_metadata", {})


def ask_all(agent: AgentChannel, requests: Sequence[Request]) -> list[MockCloudError]:
    """Send all requests, then read all answers. What failed of those that are not needed.

    RemoteCommandError of the first needed one that failed; TransportError.
    """
    refused: list[MockCloudError] = []
    with ExitStack() as stack:
        calls = [
            stack.enter_context(agent.call(one.operation, one.body.reveal(), **one.keys))
            for one in requests
        ]
        for one, call in zip(requests, calls, strict=True):
            try:
                call.next(within_s=_ANSWER_S)
            except RemoteCommandError as error:
                if one.needed:
                    raise
                refused.append(error)
    return refused
