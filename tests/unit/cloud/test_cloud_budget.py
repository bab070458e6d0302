# SPDX-License-Identifier: GPL-2.0-or-later
from dataclasses import replace

import pytest

from mock_cloud.cloud.budget import (
    BudgetReached,
    account,
    affordable_life_s,
    cost,
    day_start,
    grant_life_s,
)
from mock_cloud.cloud.lease import Lease, LeaseState
from mock_cloud.model import DAY_S
from mock_cloud.settings import AtLimit, Budget

HOUR = 3600.0
MIDNIGHT = 20_000 * DAY_S
NOON = MIDNIGHT + 12 * HOUR
TEN = Budget(per_day=10.0)
FINISH = replace(TEN, at_limit=AtLimit.FINISH)


def lease(
    start: float, end: float, price: float | None = 1.0, *, gone_at: float | None = None
) -> Lease:
    return Lease(
        id="a",
        remote="ec2",
        owner="me@here:0/11111111",
        provider="ec2",
        settings="s",
        state=LeaseState.READY if gone_at is None else LeaseState.GONE,
        created_unix=start,
        expires_unix=end,
        idle_ttl_s=60.0,
        price_per_hour=price,
        ended_unix=gone_at,
    )


def sums(*leases: Lease, now: float = NOON, day: float = MIDNIGHT) -> tuple[float, float]:
    found = account(leases, now, day_unix=day, price_if_unknown=3.0)
    return found.spent, found.reserved


def life(*leases: Lease, price: float = 1.0, now: float = NOON, wanted: float = 4 * HOUR) -> float:
    return affordable_life_s(leases, TEN, price, now, wanted)


def test_a_day_begins_at_midnight_utc() -> None:
    assert day_start(MIDNIGHT) == day_start(MIDNIGHT + DAY_S - 1) == MIDNIGHT
    assert day_start(0.0) == 0.0


def test_a_living_node_is_counted_to_its_expiry() -> None:
    assert sums(lease(NOON - HOUR, NOON + 3 * HOUR, 2.0)) == (2.0, 6.0)


def test_a_node_that_ended_early_costs_no_more() -> None:
    assert sums(lease(NOON - 3 * HOUR, NOON + HOUR, gone_at=NOON - HOUR)) == (2.0, 0.0)


def test_an_expired_node_that_is_still_there_still_costs() -> None:
    assert sums(lease(NOON - 4 * HOUR, NOON - 3 * HOUR)) == (4.0, 0.0)


def test_an_unknown_price_is_counted_as_the_one_now_asked() -> None:
    assert sums(lease(NOON - HOUR, NOON + HOUR, None)) == (3.0, 3.0)


def test_what_crosses_midnight_counts_to_both_days() -> None:
    over = lease(MIDNIGHT - 2 * HOUR, MIDNIGHT + HOUR)
    assert sums(over, now=MIDNIGHT - HOUR, day=MIDNIGHT - DAY_S) == (1.0, 1.0)
    assert sums(over, now=MIDNIGHT - HOUR, day=MIDNIGHT) == (0.0, 1.0)
    assert sums(replace(over, state=LeaseState.GONE, ended_unix=MIDNIGHT + HOUR)) == (1.0, 0.0)


def test_yesterday_costs_nothing_today() -> None:
    assert sums(lease(MIDNIGHT - HOUR, MIDNIGHT, gone_at=MIDNIGHT)) == (0.0, 0.0)


def test_cost_so_far() -> None:
    assert cost(lease(NOON - HOUR, NOON + HOUR, 3.0), NOON) == 3.0
    assert cost(lease(NOON - 3 * HOUR, NOON, 3.0, gone_at=NOON - 2 * HOUR), NOON) == 3.0
    assert cost(lease(NOON - HOUR, NOON + HOUR, None), NOON) is None


def test_within_the_budget_a_node_lives_as_long_as_wanted() -> None:
    assert life() == 4 * HOUR
    assert life(price=0.0, wanted=9 * DAY_S) == 9 * DAY_S


def test_a_life_is_cut_to_what_is_left() -> None:
    assert life(price=5.0) == 2 * HOUR
    # 3 spent and 4 reserved leave 3.
    assert life(lease(NOON - 3 * HOUR, NOON + 4 * HOUR)) == 3 * HOUR
    assert life(lease(NOON - 11 * HOUR, NOON + HOUR)) == 0.0


def test_tomorrow_has_a_budget_of_its_own() -> None:
    late = MIDNIGHT + 22 * HOUR
    assert life(price=5.0, now=late) == 4 * HOUR
    assert life(price=5.0, now=late, wanted=9 * HOUR) == 4 * HOUR
    # Today is spent, tomorrow would be free: but the node would have to wait.
    assert life(lease(MIDNIGHT, late, gone_at=late), now=late) == 0.0
    # Today is free; another node has reserved most of tomorrow.
    other = lease(late, MIDNIGHT + DAY_S + 9 * HOUR)
    assert life(other, now=late) == 3 * HOUR


def test_no_day_is_ever_overspent() -> None:
    """Whatever is granted one after the other, no day's sum exceeds the cap."""
    leases: list[Lease] = []
    for step in range(200):
        now = MIDNIGHT + step * 997.0
        price = 0.3 + step % 7 / 10
        granted = affordable_life_s(leases, TEN, price, now, 5 * HOUR)
        if granted > 0:
            leases.append(lease(now, now + granted, price))
            if step % 3 == 0:
                leases[-1] = replace(
                    leases[-1], state=LeaseState.GONE, ended_unix=now + granted / 2
                )
    assert len(leases) > 10
    end = MIDNIGHT + 200 * 997.0 + 30 * HOUR
    gone = [replace(one, state=LeaseState.GONE) for one in leases]
    for day in range(-1, 5):
        spent, _ = sums(*gone, now=end, day=MIDNIGHT + day * DAY_S)
        assert spent <= 10.0 + 1e-6


def test_finish_only_refuses_new_nodes_once_all_is_spent() -> None:
    almost = lease(NOON - 9.9 * HOUR, NOON + 9 * HOUR)
    assert affordable_life_s([almost], FINISH, 5.0, NOON, 4 * HOUR) == 4 * HOUR
    spent = lease(NOON - 10 * HOUR, NOON + 9 * HOUR)
    assert affordable_life_s([spent], FINISH, 5.0, NOON, 4 * HOUR) == 0.0


@pytest.mark.parametrize("budget", [TEN, FINISH])
def test_a_refusal_names_the_cap_what_is_spent_and_when_the_day_ends(budget: Budget) -> None:
    living = lease(NOON - 10 * HOUR, NOON + HOUR)
    with pytest.raises(BudgetReached) as caught:
        grant_life_s("ec2", [living], budget, 0.5, now_unix=NOON, wanted_s=4 * HOUR)
    for part in ("10.00 USD a day", "10.00 USD spent", "1.00 USD reserved", "in 12:00:00", "ec2"):
        assert part in caught.value.message
    assert not caught.value.retryable and caught.value.exit_code == 75
    assert "per_day" in (caught.value.hint or "")


def test_a_life_too_short_to_be_of_use_is_not_bought() -> None:
    with pytest.raises(BudgetReached):
        grant_life_s("ec2", [], TEN, 100.0, now_unix=NOON, wanted_s=4 * HOUR)
    # Unless no longer one is wanted.
    assert grant_life_s("ec2", [], TEN, 100.0, now_unix=NOON, wanted_s=300.0) == 300.0
