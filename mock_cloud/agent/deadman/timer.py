# SPDX-License-Identifier: GPL-2.0-or-later
"""When a node must end: pure decisions, on seconds of a clock that only the node reads.

The rule is the journal's (`find_due` in the controller's `cloud.lease`): a node ends when its
lease expires, whoever is at work on it, and it ends when nobody has been heard of for the
grace, whether or not a job runs.
"""

from __future__ import annotations

from mock_cloud.wire.timer_order import Order


class OrderRefused(ValueError):
    """An order is not for this timer; the message says why."""


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
