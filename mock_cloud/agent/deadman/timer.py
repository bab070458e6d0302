# SPDX-License-Identifier: GPL-2.0-or-later
"""When a node must end: pure decisions, on seconds of a clock that only the node reads.

The rule is the journal's (`find_due` in the controller's `cloud.lease`): a node ends when its
lease expires, whoever is at work on it, and it ends when nobody has been heard of for the
grace, whether or not a job runs.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any, Final

ORDER_MAX_BYTES: Final = 4096
_LEASE_MAX: Final = 64
_LIFE_MAX_S: Final = 30 * 86400


class Ending(Enum):
    """What the end is: `POWEROFF` for a node of ours, `WIPE` for a machine that was lent."""

    POWEROFF = "poweroff"
    WIPE = "wipe"


class OrderRefused(ValueError):
    """An order is not one, or not for this timer; the message says why."""


@dataclass(frozen=True, slots=True)
class Order:
    """What the controller wants, in seconds from now.

    A life of a second ends the node now, and lets the answer to the order get away.
    """

    lease: str
    life_s: int
    grace_s: int
    ending: Ending

    def to_json(self) -> bytes:
        return json.dumps({**asdict(self), "ending": self.ending.value}).encode()


def parse_order(raw: Any) -> Order:
    """An order from its JSON object. OrderRefused."""
    if not isinstance(raw, dict) or set(raw) != {"lease", "life_s", "grace_s", "ending"}:
        raise OrderRefused("an order has a lease, a life, a grace and an ending")
    lease, life_s, grace_s = raw["lease"], raw["life_s"], raw["grace_s"]
    if not isinstance(lease, str) or not 0 < len(lease) <= _LEASE_MAX or not lease.isprintable():
        raise OrderRefused("a lease is a short word")
    if type(life_s) is not int or not 1 <= life_s <= _LIFE_MAX_S:
        raise OrderRefused(f"a life is 1 to {_LIFE_MAX_S} seconds")
    if type(grace_s) is not int or not 1 <= grace_s <= _LIFE_MAX_S:
        raise OrderRefused(f"a grace is 1 to {_LIFE_MAX_S} seconds")
    try:
        return Order(lease, life_s, grace_s, Ending(raw["ending"]))
    except ValueError as error:
        raise OrderRefused("an ending is poweroff or wipe") from error


class Timer:
    """Armed by an order; later orders for the same lease renew or shorten it. `now` in seconds."""

    def __init__(self, order: Order, now: float) -> None:
        self.order = order
        self._ends_at = now + order.life_s
        self._heard_at = now

    def renew(self, order: Order, now: float) -> None:
        """Take a later order. OrderRefused if it is for another lease: this one is not over."""
        if order.lease != self.order.lease:
            raise OrderRefused(
                f"the node is leased as {self.order.lease}, for {self.left_s(now):.0f} s more if"
                " nobody is heard of"
            )
        self.order = order
        self._ends_at = now + order.life_s
        self._heard_at = now

    def hear(self, now: float) -> None:
        """A controller was heard of: the grace starts anew. The end of the lease stays."""
        self._heard_at = now

    def find_due(self, now: float) -> str | None:
        """Why the node must end now; None while it may live."""
        if now >= self._ends_at:
            return "the lease is over"
        if now >= self._heard_at + self.order.grace_s:
            return f"no controller was heard of for {self.order.grace_s} s"
        return None

    def left_s(self, now: float) -> float:
        """Seconds until the node is due if nobody is heard of again."""
        return max(0.0, min(self._ends_at, self._heard_at + self.order.grace_s) - now)
