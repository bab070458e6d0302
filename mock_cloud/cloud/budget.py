# SPDX-License-Identifier: GPL-2.0-or-later
"""What a remote has cost today and may still cost: pure sums over the journal's leases.

A day is one of UTC. A lease costs its price from the moment it was intended to its end; one that
lives is counted up to its expiry, which its node enforces itself. What crosses midnight
counts to each day with its share.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from mock_cloud.cloud.lease import Lease, LeaseState
from mock_cloud.errors import CloudError
from mock_cloud.model import DAY_S
from mock_cloud.settings import AtLimit, Budget
from mock_cloud.wire.dataclass import dataclass

USEFUL_LIFE_S: Final = 600.0
"""A shorter life is not worth a node: it boots, is attested, and has no time to build."""


class BudgetReached(CloudError):
    """The day's budget has no room for another node."""

    retryable = False


@dataclass(frozen=True, slots=True)
class Account:
    """One day of one remote: money spent up to now, and reserved for the nodes that live."""

    spent: float
    reserved: float
    living: int

    @property
    def committed(self) -> float:
        return self.spent + self.reserved


def day_start(moment_unix: float) -> float:
    """The midnight (UTC) with which the day of that moment began, in unix seconds."""
    return moment_unix // DAY_S * DAY_S


def cost(lease: Lease, now_unix: float) -> float | None:
    """What the lease has cost so far; None if nobody knows its price."""
    if lease.price_per_hour is None:
        return None
    end = min(_end(lease, now_unix), now_unix)
    return max(0.0, end - lease.created_unix) * _rate(lease, 0.0)


def account(
    leases: Sequence[Lease], now_unix: float, *, day_unix: float, price_if_unknown: float
) -> Account:
    """The sums of the day that begins at `day_unix`. `leases` are a remote's, gone ones too.

    `price_if_unknown` stands for what a lease costs that was made before there was a budget.
    """
    day_end = day_unix + DAY_S
    spent = reserved = 0.0
    for lease in leases:
        rate, end = _rate(lease, price_if_unknown), _end(lease, now_unix)
        spent += rate * _overlap_s(lease.created_unix, min(end, now_unix), day_unix, day_end)
        reserved += rate * _overlap_s(max(lease.created_unix, now_unix), end, day_unix, day_end)
    living = sum(lease.state is not LeaseState.GONE for lease in leases)
    return Account(spent, reserved, living)


def affordable_life_s(
    leases: Sequence[Lease], budget: Budget, price_per_hour: float, now_unix: float, wanted_s: float
) -> float:
    """How long a new node may live, at most `wanted_s`; 0 if the budget is spent.

    AtLimit.STOP: so long that no day's budget can be exceeded. AtLimit.FINISH: as long as wanted,
    unless today's is spent already.
    """
    today = day_start(now_unix)
    if price_per_hour <= 0:
        return wanted_s
    if budget.at_limit is AtLimit.FINISH:
        so_far = account(leases, now_unix, day_unix=today, price_if_unknown=price_per_hour)
        return wanted_s if so_far.spent < budget.per_day else 0.0
    rate = price_per_hour / 3600.0
    moment, end, day = now_unix, now_unix + wanted_s, today
    while moment < end:
        that_day = account(leases, now_unix, day_unix=day, price_if_unknown=price_per_hour)
        affordable_s = max(0.0, budget.per_day - that_day.committed) / rate
        wanted_that_day_s = min(end, day + DAY_S) - moment
        if affordable_s < wanted_that_day_s:
            return moment + affordable_s - now_unix
        moment = day = day + DAY_S
    return wanted_s


def grant_life_s(
    remote: str,
    leases: Sequence[Lease],
    budget: Budget,
    price_per_hour: float,
    *,
    now_unix: float,
    wanted_s: float,
) -> float:
    """As `affordable_life_s`, but BudgetReached where that is too short to be of use."""
    life_s = affordable_life_s(leases, budget, price_per_hour, now_unix, wanted_s)
    if life_s >= min(wanted_s, USEFUL_LIFE_S):
        return life_s
    today = day_start(now_unix)
    sums = account(leases, now_unix, day_unix=today, price_if_unknown=price_per_hour)
    left = timedelta(seconds=round(today + DAY_S - now_unix))
    raise BudgetReached(
        f"remote {remote}: its budget of {money(budget.per_day, budget)} a day has no room for a"
        f" node at {money(price_per_hour, budget)} an hour: {money(sums.spent, budget)} spent"
        f" today, {money(sums.reserved, budget)} reserved for {sums.living} living nodes;"
        f" the day ends at 00:00 UTC, in {left}",
        hint="mock-cloud release gives back what is not needed; else wait, or raise [budget]"
        " per_day in the remote's file",
    )


def money(amount: float, budget: Budget) -> str:
    """An amount as people read it."""
    return f"{amount:.2f} {budget.currency}"


def _end(lease: Lease, now_unix: float) -> float:
    """When it stops costing: an expired lease that is not gone yet still costs."""
    if lease.state is LeaseState.GONE:
        return lease.expires_unix if lease.ended_unix is None else lease.ended_unix
    return max(lease.expires_unix, now_unix)


def _rate(lease: Lease, price_if_unknown: float) -> float:
    """Price per second."""
    price = price_if_unknown if lease.price_per_hour is None else lease.price_per_hour
    return price / 3600.0


def _overlap_s(start: float, end: float, from_: float, to: float) -> float:
    return max(0.0, min(end, to) - max(start, from_))
