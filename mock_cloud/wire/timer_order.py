# SPDX-License-Identifier: GPL-2.0-or-later
"""What the controller tells a node's dead-man timer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Final

from mock_cloud.wire.decode import Malformed, within

ORDER_MAX_BYTES: Final = 4096
_LEASE_MAX: Final = 64
_LIFE_MAX_S: Final = 30 * 86400


def _lease(value: str) -> str:
    if not 0 < len(value) <= _LEASE_MAX or not value.isprintable():
        raise Malformed("a lease is a short word")
    return value


class Ending(Enum):
    """What the end is: `POWEROFF` for a node of ours, `WIPE` for a machine that was lent."""

    POWEROFF = "poweroff"
    WIPE = "wipe"


@dataclass(frozen=True, slots=True)
class Order:
    """What the controller wants, in seconds from now.

    A life of a second ends the node now, and lets the answer to the order get away.
    """

    lease: Annotated[str, _lease]
    life_s: Annotated[int, within(1, _LIFE_MAX_S)]
    grace_s: Annotated[int, within(1, _LIFE_MAX_S)]
    ending: Ending
