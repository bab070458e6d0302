# SPDX-License-Identifier: GPL-2.0-or-later
"""The printers that need no terminal: nothing, lines for people, and lines of JSON for programs.

A printer is told each event under the console's lock and returns the text to write, empty for none.
What a node said has been made safe before; JSON escapes all that is not ASCII.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Final, Protocol

from mock_cloud.progress.timeline import BuildPhase, Timeline, show_time, show_transfer, sum_up
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.terminal_text import printable

_BYTES_EVERY_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class FailureReport:
    """Why a command failed. `kind` is one of docs/json.md's; `hint` is what to try next.

    `lines` are the last useful ones of the file `log`, and may hold anything.
    """

    kind: str
    exit_code: int
    message: str
    hint: str = ""
    log: str = ""
    lines: tuple[str, ...] = ()


class Printer(Protocol):
    """Turns events into text. `view` is what stands below the last line, replaced each time."""

    def line(self, level: str, text: str) -> str: ...

    def text(self, text: str) -> str: ...

    def began(self, phase: BuildPhase) -> str: ...

    def detail(self, phase: BuildPhase) -> str: ...

    def moved(self, phase: BuildPhase) -> str: ...

    def ended(self, phase: BuildPhase) -> str: ...

    def finished(self, timeline: Timeline) -> str: ...

    def failed(self, why: FailureReport) -> str: ...

    def view(self) -> Sequence[str]: ...


class Silent:
    """mock's own lines, and nothing else."""

    def line(self, level: str, text: str) -> str:
        return f"{level}: {text}\n" if level else f"{text}\n"

    def text(self, text: str) -> str:
        return text

    def began(self, phase: BuildPhase) -> str:
        return ""

    def detail(self, phase: BuildPhase) -> str:
        return ""

    def moved(self, phase: BuildPhase) -> str:
        return ""

    def ended(self, phase: BuildPhase) -> str:
        return ""

    def finished(self, timeline: Timeline) -> str:
        return ""

    def failed(self, why: FailureReport) -> str:
        """Without a log the message and the hint are lines by now."""
        if not why.log:
            return ""
        lines = [f"{why.log}:", *(f"  {line}" for line in why.lines), f"{why.kind}: {why.message}"]
        return "".join(self.line("", printable(one)) for one in (*lines, f"       {why.hint}"))

    def view(self) -> Sequence[str]:
        return ()


class Plain(Silent):
    """A line for each thing that begins, one for bytes each ten seconds, and what it all took."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._told_at = float("-inf")

    def detail(self, phase: BuildPhase) -> str:
        return self._say(f"{phase.name}: {phase.detail}")

    def moved(self, phase: BuildPhase) -> str:
        now = self._timeline.clock()
        if now - self._told_at < _BYTES_EVERY_S:
            return ""
        self._told_at = now
        return self._say(f"{phase.name}: {show_transfer(phase, now)}")

    def ended(self, phase: BuildPhase) -> str:
        self._told_at = float("-inf")
        moved = show_transfer(phase, self._timeline.clock())
        took = show_time(phase.took_s(self._timeline.clock()))
        return self._say(f"{phase.name}: done in {took}{f', {moved}' if moved else ''}")

    def finished(self, timeline: Timeline) -> str:
        return "".join(self._say(line) for line in sum_up(timeline, time.time()))

    def _say(self, text: str) -> str:
        # Details name what was found on a node.
        return self.line("INFO", printable(f"[{show_time(self._timeline.took_s)}] {text}"))


class Json(Silent):
    """One JSON object a line, see docs/json.md."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline

    def line(self, level: str, text: str) -> str:
        return _event("line", level=level, text=text)

    def text(self, text: str) -> str:
        return _event("text", text=text)

    def began(self, phase: BuildPhase) -> str:
        return _event("begin", phase=phase.name)

    def detail(self, phase: BuildPhase) -> str:
        return _event("detail", phase=phase.name, text=phase.detail)

    def moved(self, phase: BuildPhase) -> str:
        transfer = phase.transfer
        if transfer is None:
            return ""
        total = transfer.total_bytes or None
        return _event("bytes", phase=phase.name, done=transfer.done_bytes, total=total)

    def ended(self, phase: BuildPhase) -> str:
        took_s = round(phase.took_s(self._timeline.clock()), 3)
        return _event("end", phase=phase.name, seconds=took_s, bytes=phase.moved_bytes)

    def finished(self, timeline: Timeline) -> str:
        price = timeline.price
        return _event(
            "summary",
            seconds=round(timeline.took_s, 3),
            bytes=timeline.moved_bytes,
            cost=timeline.cost,
            currency=None if price is None else price.currency or None,
            kept_until_unix=timeline.kept_until_unix,
            kept_cost=timeline.kept_cost(time.time()),
        )

    def failed(self, why: FailureReport) -> str:
        return _event(
            "failure",
            kind=why.kind,
            exit=why.exit_code,
            message=why.message,
            hint=why.hint or None,
            log=why.log or None,
            lines=list(why.lines),
        )


def _event(event: str, **facts: object) -> str:
    return json.dumps({"event": event, "time": round(time.time(), 3), **facts}) + "\n"
