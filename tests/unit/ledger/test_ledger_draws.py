# SPDX-License-Identifier: GPL-2.0-or-later
"""Draws of audits: as likely as they should be, and nobody can cheat in them unseen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from mock_cloud.ledger.draws import (
    Draw,
    check_draws,
    commit_seed,
    draw,
    find_commitment,
    note_draw,
    reveal_seed,
)
from mock_cloud.ledger.entries import FIRST, EventKind, LedgerEntry, LedgerEvent
from mock_cloud.ledger.ratings import Rules, rate

SEED, OTHER = b"s" * 32, b"o" * 32
BUILDER = "host:SHA256:x"


def chained(*events: LedgerEvent) -> list[LedgerEntry]:
    entries: list[LedgerEntry] = []
    for number, event in enumerate(events, 1):
        previous = entries[-1].sha256 if entries else FIRST
        entries.append(LedgerEntry(number, previous, event))
    return entries


def built(job: str) -> LedgerEvent:
    return LedgerEvent(EventKind.BUILT, BUILDER, 100, job=job, files={"a.rpm": "0" * 64})


def drawn(before: Sequence[LedgerEvent], probability: float, seed: bytes = SEED) -> LedgerEvent:
    """For the last of the events."""
    entry = chained(*before)[-1]
    return note_draw(draw(seed, entry, probability), entry, seed, 101)


def agreed(job: str) -> LedgerEvent:
    return LedgerEvent(EventKind.AGREED, BUILDER, 102, job=job, other="host:SHA256:y")


def honest(probability: float = 1.0) -> list[LedgerEvent]:
    events = [commit_seed(SEED, 1), built("one")]
    return [*events, drawn(events, probability), agreed("one"), reveal_seed(SEED, 200)]


def test_as_many_are_drawn_as_should_be() -> None:
    entries = chained(*(built(str(number)) for number in range(4000)))
    assert 360 < sum(draw(SEED, one, 0.1).is_audited for one in entries) < 440
    assert all(draw(SEED, one, 1.0).is_audited for one in entries)
    assert not any(draw(SEED, one, 0.0).is_audited for one in entries)


def test_the_digests_of_the_build_decide_too() -> None:
    """So that a builder which knew the seed of yesterday's audits knows nothing of today's."""
    one, other = chained(built("one"))[0], chained(replace(built("one"), files={}))[0]
    assert draw(SEED, one, 1.0) == draw(SEED, one, 1.0)
    assert draw(SEED, one, 1.0) != draw(SEED, other, 1.0) != draw(OTHER, other, 1.0)


def test_honest_draws_are_drawn_again() -> None:
    assert list(check_draws(chained(*honest()))) == []
    assert list(check_draws(chained(*honest(0.0)))) == []


def test_a_seed_that_is_not_revealed_is_not_checked_yet() -> None:
    assert list(check_draws(chained(*honest()[:-1]))) == []
    assert find_commitment(chained(*honest()[:-1]), SEED) is not None
    assert find_commitment(chained(*honest()), SEED) is None


def test_what_a_controller_might_try() -> None:
    seeded, build, draws, agreement, revealed = honest()
    lie = replace(draws, reason=draws.reason.replace("audited", "passed over"))
    late = [build, seeded]
    late_draw = note_draw(draw(SEED, chained(*late)[0], 1.0), chained(*late)[0], SEED, 101)
    twice = [seeded, build, draws, drawn([seeded, build], 0.0), agreement, revealed]
    # Of two seeds the one that passes it over, and both are revealed later.
    two = [seeded, commit_seed(OTHER, 1), build]
    two += [drawn(two, 0.5, seed=OTHER), agreement, revealed, reveal_seed(OTHER, 200)]
    for events, said in (
        ([seeded, build, lie, revealed], "is not what its seed draws"),
        ([seeded, build, draws, revealed], "was to be audited, and was not"),
        ([*late, late_draw, agreement, revealed], "not committed to before the build"),
        (twice, "draws once more for build 2"),
        (two, "commits to another seed before that of entry 1 was revealed"),
        ([seeded, build, replace(draws, flag=1), agreement, revealed], "draws for no build"),
        ([seeded, build, draws, agreement, replace(revealed, reason="00" * 32)],
         "reveals another seed"),
        ([seeded, build, replace(draws, reason="audited"), agreement, revealed],
         "is not what its seed draws"),
        ([seeded, build, draws, agreement, replace(revealed, reason="odd")],
         "reveals another seed"),
    ):  # fmt: skip
        found = list(check_draws(chained(*events)))
        assert any(said in one for one in found), (said, found)


def test_the_controller_is_no_builder() -> None:
    assert set(rate(chained(*honest()), Rules(), 300)) == {BUILDER}


@pytest.mark.parametrize(("value", "is_audited"), [(0.0, True), (0.49, True), (0.5, False)])
def test_a_draw_says_itself_in_words(value: float, is_audited: bool) -> None:
    found = Draw(value, 0.5)
    assert found.is_audited is is_audited
    assert found.words == f"{'audited' if is_audited else 'passed over'}, {value} of 0.5"
