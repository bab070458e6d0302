# SPDX-License-Identifier: GPL-2.0-or-later
"""Ratings: what raises a builder, what does not, and what ends it at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from mock_cloud.errors import ConfigError
from mock_cloud.ledger.entries import FIRST, EventKind, LedgerEntry, LedgerEvent
from mock_cloud.ledger.ratings import Builder, Rating, Rules, rate, read_rules

DAY = 86400
START = 1_700_000_000
ME = "host:me"


def happened(*events: tuple[EventKind, int, str], flag: int = 0) -> list[LedgerEntry]:
    """Events of kind, day and other builder, each in its place."""
    entries: list[LedgerEntry] = []
    for kind, day, other in events:
        previous = entries[-1].sha256 if entries else FIRST
        event = LedgerEvent(kind, ME, START + day * DAY, other=other,
                      flag=int(other) if other.isdecimal() else 0)  # fmt: skip
        entries.append(LedgerEntry(len(entries) + 1, previous, event))
    return entries


def agreements(count: int, *, first: int = 0, others: int = 50) -> list[tuple[EventKind, int, str]]:
    return [(EventKind.AGREED, first + day, f"host:{day % others}") for day in range(count)]


def rated(events: list[tuple[EventKind, int, str]], day: int) -> Builder:
    return rate(happened(*events), Rules(), START + day * DAY)[ME]


def test_a_builder_rises_by_agreements_and_time() -> None:
    assert rated([(EventKind.BUILT, 0, "")], 1000).rating is Rating.NEW
    assert rated(agreements(9), 31).rating is Rating.NEW
    assert rated(agreements(10), 29).rating is Rating.NEW
    assert rated(agreements(10), 30).rating is Rating.PROVEN
    assert rated(agreements(100), 364).rating is Rating.PROVEN
    assert rated(agreements(100), 365).rating is Rating.SPONSOR


def test_two_builders_cannot_raise_each_other_in_a_day() -> None:
    found = rated([(EventKind.AGREED, 0, "host:friend")] * 500, 400)
    assert (found.agreements, found.rating) == (1, Rating.NEW)


@pytest.mark.parametrize("kind", [EventKind.DISAGREED, EventKind.FLAGGED])
def test_a_flag_counts_at_once_whatever_was_before(kind: EventKind) -> None:
    found = rated([*agreements(200), (kind, 500, "host:x")], 500)
    assert (found.rating, list(found.flags)) == (Rating.FLAGGED, [201])


def test_a_flag_that_was_cleared_costs_nothing() -> None:
    events = [*agreements(100), (EventKind.FLAGGED, 400, ""), (EventKind.CLEARED, 401, "101")]
    assert rated(events, 402).rating is Rating.SPONSOR


def test_the_guilty_begins_anew() -> None:
    events = [
        *agreements(100),
        (EventKind.DISAGREED, 400, "host:x"),
        (EventKind.GUILTY, 401, "101"),
    ]
    assert rated(events, 402).rating is Rating.NEW
    again = [*events, *agreements(10, first=402)]
    assert rated(again, 425).rating is Rating.NEW
    assert rated(again, 431).rating is Rating.PROVEN


def test_one_of_two_flags_that_was_resolved_leaves_the_other() -> None:
    events = [(EventKind.FLAGGED, 0, ""), (EventKind.FLAGGED, 1, ""), (EventKind.CLEARED, 2, "1")]
    assert list(rated(events, 3).flags) == [2]


def test_a_node_that_is_refused_again_and_again_is_not_relied_on() -> None:
    refused = [(EventKind.REFUSED, day, "") for day in (398, 399, 400)]
    assert rated([*agreements(100), *refused[:2]], 400).rating is Rating.SPONSOR
    assert rated([*agreements(100), *refused], 400).rating is Rating.NEW
    assert rated([*agreements(100), *refused], 431).rating is Rating.SPONSOR


def test_rules_are_read_and_what_they_leave_out_is_the_default(tmp_path: Path) -> None:
    path = tmp_path / "trust.toml"
    assert read_rules(path) == Rules()
    path.write_text("refusals = 0\n[proven]\nagreements = 2\n")
    rules = read_rules(path)
    assert (rules.refusals, rules.proven.agreements, rules.proven.days) == (0, 2, 30)
    assert rules.sponsor == Rules().sponsor


@pytest.mark.parametrize(
    "text",
    ["refusal = 1", "[proven]\nagreement = 1", "[proven]\ndays = -1", "refusals =", "proven = 3"],
)
def test_wrong_rules_are_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "trust.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"trust\.toml"):
        read_rules(path)
