# SPDX-License-Identifier: GPL-2.0-or-later
"""Phases, rates and costs, by a clock of the test's own."""

from __future__ import annotations

import pytest

from mock_cloud.progress.printers import Json, Plain, Silent
from mock_cloud.progress.timeline import (
    NodePrice,
    Timeline,
    show_bytes,
    show_money,
    show_time,
    show_transfer,
    sum_up,
)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def timeline(clock: Clock) -> Timeline:
    return Timeline(began_s=100.0, clock=clock)


def test_a_phase_ends_where_the_next_one_begins(timeline: Timeline, clock: Clock) -> None:
    timeline.begin("node")
    clock.now += 30
    timeline.begin("job")
    clock.now += 90
    timeline.end()
    clock.now += 1000
    assert [(one.name, one.took_s(clock.now)) for one in timeline.phases] == [
        ("node", 30),
        ("job", 90),
    ]
    assert timeline.took_s == 120 and timeline.now is None and timeline.end() is None


def test_bytes_percent_rate_and_what_is_left(timeline: Timeline, clock: Clock) -> None:
    phase = timeline.begin("send")
    assert show_transfer(phase, clock.now) == ""
    for done in (10, 20, 30):
        clock.now += 1
        timeline.move(done << 20, 100 << 20)
    assert show_transfer(phase, clock.now) == "30 MiB of 100 MiB, 30 %, 10 MiB/s, 0:07 left"
    clock.now += 60  # the line is silent: what is left is no longer what it was
    timeline.move(30 << 20, 100 << 20)
    assert phase.transfer is not None and phase.transfer.rate(clock.now) == 0
    assert show_transfer(phase, clock.now) == "30 MiB of 100 MiB, 30 %"
    timeline.end()
    assert show_transfer(phase, clock.now) == "30 MiB" and timeline.moved_bytes == 30 << 20


def test_cost_is_that_of_the_time_with_the_node(timeline: Timeline, clock: Clock) -> None:
    timeline.begin("node")
    clock.now += 1000
    assert timeline.cost is None
    timeline.take_node(NodePrice(3.6, "EUR"))
    clock.now += 10
    assert timeline.cost == pytest.approx(0.01)
    timeline.end()
    timeline.kept_until_unix = 2000.0
    assert timeline.kept_cost(1000.0) == pytest.approx(1.0)
    first, second = sum_up(timeline, 1000.0)
    assert first == "16:50 in all, cost 0.01 EUR"
    assert second.endswith("which costs 1.00 EUR at most")


def test_a_node_without_a_price_costs_nothing_that_is_known(timeline: Timeline) -> None:
    timeline.begin("node")
    timeline.take_node(None)
    assert timeline.cost is None and len(sum_up(timeline, 0.0)) == 1


def test_how_long_it_takes_yet(timeline: Timeline, clock: Clock) -> None:
    timeline.begin("job")
    assert timeline.left_s is None
    timeline.expected_s = 60
    clock.now += 45
    assert timeline.left_s == 15
    clock.now += 45
    assert timeline.left_s is None


def test_plain_says_bytes_each_ten_seconds_only(timeline: Timeline, clock: Clock) -> None:
    printer, phase, lines = Plain(timeline), timeline.begin("send"), []
    for second in range(25):
        clock.now = 100.0 + second
        timeline.move(second, 100)
        lines.append(printer.moved(phase))
    assert [number for number, line in enumerate(lines) if line] == [0, 10, 20]


@pytest.mark.parametrize("kind", [Plain, Json])
def test_a_detail_from_a_node_is_harmless(timeline: Timeline, kind: type[Silent]) -> None:
    phase = timeline.begin("attest")
    phase.detail = "there is \x1b]0;owned\x07\x1b[2J\r\nINFO: all is well"
    printer = kind(timeline)  # type: ignore[call-arg]
    told = printer.began(phase) + printer.detail(phase) + printer.ended(phase)
    assert "\x1b" not in told and "\r" not in told and "\x07" not in told
    assert not any(line.startswith("INFO: all") for line in told.splitlines())


def test_words_for_numbers() -> None:
    assert [show_time(one) for one in (7, 75, 3723)] == ["0:07", "1:15", "1:02:03"]
    shown = [show_bytes(one) for one in (0, 812, 4300, 17 << 20, 3000 << 30)]
    assert shown == ["0 B", "812 B", "4.2 KiB", "17 MiB", "3000 GiB"]
    assert [show_money(one, NodePrice(1)) for one in (0, 0.0012, 2)] == ["0.00", "0.0012", "2.00"]
