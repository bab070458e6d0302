# SPDX-License-Identifier: GPL-2.0-or-later
"""What a command has done so far: its phases, how long each took, how much it moved, what it cost.

Nothing here prints. Times are of `time.monotonic`, so that a clock that is set changes nothing.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import field
from enum import Enum
from typing import Final

from mock_cloud.wire.dataclass import dataclass

_RATE_OVER_S: Final = 10.0
"""A rate is that of the last seconds: what was before says little about what comes."""
_RATE_LEAST_S: Final = 0.5


class ProgressMode(Enum):
    """How progress is shown."""

    AUTO = "auto"
    """A live view on a terminal; nothing elsewhere."""
    PLAIN = "plain"
    JSON = "json"
    NONE = "none"


PROGRESS_MODES: Final = tuple(mode.value for mode in ProgressMode)


class Transfer:
    """Bytes on their way: how many of how many, how fast, how long yet."""

    def __init__(self, now_s: float) -> None:
        self.done_bytes = 0
        self.total_bytes = 0
        self._samples: deque[tuple[float, int]] = deque([(now_s, 0)])

    def set(self, done_bytes: int, total_bytes: int, now_s: float) -> None:
        self.done_bytes, self.total_bytes = done_bytes, total_bytes
        if now_s > self._samples[-1][0]:
            self._samples.append((now_s, done_bytes))
        while len(self._samples) > 2 and self._samples[1][0] < now_s - _RATE_OVER_S:
            self._samples.popleft()

    @property
    def percent(self) -> int | None:
        """None where nobody knows how much there is."""
        return min(100, 100 * self.done_bytes // self.total_bytes) if self.total_bytes else None

    def rate(self, now_s: float) -> float | None:
        """Bytes a second; None in the first moments."""
        since_s, before = self._samples[0]
        took_s = now_s - since_s
        return (self.done_bytes - before) / took_s if took_s >= _RATE_LEAST_S else None

    def left_s(self, now_s: float) -> float | None:
        """Seconds until all of it is there; None if nobody can tell."""
        rate = self.rate(now_s)
        if not self.total_bytes or not rate:
            return None
        return max(0, self.total_bytes - self.done_bytes) / rate


@dataclass(slots=True)
class BuildPhase:
    """One part of the timeline: `detail` is what happens in it now."""

    name: str
    began_s: float
    ended_s: float | None = None
    detail: str = ""
    transfer: Transfer | None = None

    def took_s(self, now_s: float) -> float:
        return (now_s if self.ended_s is None else self.ended_s) - self.began_s

    @property
    def moved_bytes(self) -> int:
        return 0 if self.transfer is None else self.transfer.done_bytes


@dataclass(frozen=True, slots=True)
class NodePrice:
    """What the node costs, by the hour; `currency` is empty where nobody says which."""

    per_hour: float
    currency: str = ""

    def of(self, seconds: float) -> float:
        return self.per_hour * max(0.0, seconds) / 3600


@dataclass(slots=True)
class Timeline:
    """All phases of one command, in their order. `expected_s` is what it took the last time."""

    began_s: float = field(default_factory=time.monotonic)
    phases: list[BuildPhase] = field(default_factory=list)
    price: NodePrice | None = None
    node_since_s: float | None = None
    kept_until_unix: float | None = None
    expected_s: float | None = None
    clock: Callable[[], float] = time.monotonic

    @property
    def now(self) -> BuildPhase | None:
        """The phase that goes on."""
        last = self.phases[-1] if self.phases else None
        return last if last is not None and last.ended_s is None else None

    def begin(self, name: str) -> BuildPhase:
        """The next phase, which ends the one before."""
        self.end()
        phase = BuildPhase(name, self.clock())
        self.phases.append(phase)
        return phase

    def end(self) -> BuildPhase | None:
        """End the phase that goes on, if one does; it is returned."""
        phase = self.now
        if phase is not None:
            phase.ended_s = self.clock()
        return phase

    def move(self, done_bytes: int, total_bytes: int) -> None:
        """So many of so many bytes are there, in the phase that goes on."""
        phase = self.now
        if phase is None:
            return
        if phase.transfer is None:
            phase.transfer = Transfer(phase.began_s)
        phase.transfer.set(done_bytes, total_bytes, self.clock())

    def take_node(self, price: NodePrice | None) -> None:
        """From now on a node is held, and costs."""
        self.price, self.node_since_s = price, self.clock()

    @property
    def took_s(self) -> float:
        last = self.phases[-1] if self.phases else None
        ended = last.ended_s if last is not None else None
        return (self.clock() if ended is None else ended) - self.began_s

    @property
    def moved_bytes(self) -> int:
        return sum(phase.moved_bytes for phase in self.phases)

    @property
    def cost(self) -> float | None:
        """Of the time for which this command has held the node; None if nobody knows its price."""
        if self.price is None or self.node_since_s is None:
            return None
        return self.price.of(self.began_s + self.took_s - self.node_since_s)

    @property
    def left_s(self) -> float | None:
        """How long it takes yet, if it takes as long as the last time; None if nobody can tell."""
        if self.expected_s is None or self.took_s > self.expected_s:
            return None
        return self.expected_s - self.took_s

    def kept_cost(self, now_unix: float) -> float | None:
        """What the node costs if it is kept for as long as it may be."""
        if self.price is None or self.kept_until_unix is None:
            return None
        return self.price.of(self.kept_until_unix - now_unix)


def show_time(seconds: float) -> str:
    """``0:07``, ``12:34``, ``1:02:03``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def show_bytes(count: float) -> str:
    """``812 B``, ``4.2 KiB``, ``17 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" or count >= 10 else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError


def show_money(amount: float, price: NodePrice) -> str:
    """``0.02 USD``; small sums in full."""
    text = f"{amount:.4f}" if 0.00005 <= amount < 0.01 else f"{amount:.2f}"
    return f"{text} {price.currency}".rstrip()


def show_transfer(phase: BuildPhase, now_s: float) -> str:
    """``12 of 40 MiB, 30 %, 2.1 MiB/s, 0:13 left``, as much of it as is known."""
    transfer = phase.transfer
    if transfer is None or not (transfer.done_bytes or transfer.total_bytes):
        return ""
    if phase.ended_s is not None:
        return show_bytes(transfer.done_bytes)
    parts = [show_bytes(transfer.done_bytes)]
    if transfer.total_bytes:
        parts[0] += f" of {show_bytes(transfer.total_bytes)}"
        parts.append(f"{transfer.percent} %")
    if rate := transfer.rate(now_s):
        parts.append(f"{show_bytes(rate)}/s")
    left_s = transfer.left_s(now_s)
    if left_s is not None:
        parts.append(f"{show_time(left_s)} left")
    return ", ".join(parts)


def sum_up(timeline: Timeline, now_unix: float) -> list[str]:
    """What stays when a command ends: time, bytes and cost in all; until when the node lives."""
    parts = [f"{show_time(timeline.took_s)} in all"]
    if timeline.moved_bytes:
        parts.append(f"{show_bytes(timeline.moved_bytes)} moved")
    if timeline.price is not None and timeline.cost is not None:
        parts.append(f"cost {show_money(timeline.cost, timeline.price)}")
    lines = [", ".join(parts)]
    until = timeline.kept_until_unix
    if until is not None and until > now_unix:
        at = time.strftime("%H:%M", time.localtime(until))
        kept, cost = f"the node is kept until {at}", timeline.kept_cost(now_unix)
        if cost is not None and timeline.price is not None:
            kept += f", which costs {show_money(cost, timeline.price)} at most"
        lines.append(kept)
    return lines
