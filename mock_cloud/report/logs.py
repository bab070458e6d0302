# SPDX-License-Identifier: GPL-2.0-or-later
"""What a page shows of a build's logs: their text, the lines that look like a failure, the phases.

Logs are a node's words: read in bounds, never through a link, and made safe to show.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

from mock_cloud.provenance.files import open_regular
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.terminal_text import sanitize

HEAD_MAX: Final = 256 << 10
TAIL_MAX: Final = 1 << 20
"""Bytes shown of a log's begin and end; what is in between is left out."""
LOGS_MAX: Final = 40
FAILURES_MAX: Final = 30
_LAST_LINES: Final = 15
_LINE_MAX: Final = 2000
_PHASES_MAX: Final = 500
_STATE_LOG: Final = "state.log"
_RUN: Final = "run"

_FAILURE: Final = re.compile(
    r"\b(?:fatal )?error:|\bError \d+\b|\*\*\* |undefined reference|command not found"
    r"|No matching package|nothing provides|Bad exit status|RPM build errors|^Traceback \("
    r"|Segmentation fault|No space left on device|Killed\b|^FAIL|\bFAILED\b|^ERROR\b"
    r"|\b(?:unknown|unrecognized) option\b",
)
"""gcc, make, ld, sh, dnf, rpmbuild, Python, the kernel, test suites, mock."""
_PHASE: Final = re.compile(
    r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),(\d{3}) - (Start|Finish): (.*)", re.ASCII
)


@dataclass(frozen=True, slots=True)
class LogText:
    """A log as it is shown. `left_out_bytes` of its middle are not in `head` and `tail`.

    `problem` is why it can't be shown; empty if it can.
    """

    name: str
    size_bytes: int
    head: str
    tail: str = ""
    left_out_bytes: int = 0
    problem: str = ""

    @property
    def lines(self) -> list[str]:
        return [*self.head.split("\n"), *self.tail.split("\n")]


@dataclass(frozen=True, slots=True)
class FailureLine:
    """A line that looks like a failure."""

    log: str
    text: str


@dataclass(frozen=True, slots=True)
class Phase:
    """One of mock's states, by the node's clock; `depth` others had begun and not ended.

    `end_s` is None for one that never ended.
    """

    name: str
    depth: int
    start_s: float
    end_s: float | None


def read_logs(place: Path, names: Sequence[str]) -> list[LogText]:
    """The logs of these names below `place`: those that tell most first, `LOGS_MAX` at most."""
    first = {name: number for number, name in enumerate(("build.log", "root.log", _STATE_LOG))}
    order = sorted(names, key=lambda name: (first.get(Path(name).name, len(first)), name))
    return [_read_log(place, name) for name in order[:LOGS_MAX]]


def _read_log(place: Path, name: str) -> LogText:
    try:
        with open_regular(place / name) as stream:
            size = stream.seek(0, 2)
            stream.seek(0)
            head = stream.read(HEAD_MAX + TAIL_MAX)
            left = size - len(head)
            if left <= 0:
                return LogText(name, size, _shown(head))
            stream.seek(size - TAIL_MAX)
            tail = stream.read(TAIL_MAX)
    except OSError as error:
        return LogText(name, 0, "", problem=error.strerror or str(error))
    return LogText(name, size, _shown(head[:HEAD_MAX]), _shown(tail), size - HEAD_MAX - TAIL_MAX)


def read_end(path: Path, begin: int, size_max: int) -> list[str]:
    """The last lines of what stands in a log behind `begin`, safe to show, if there are any."""
    try:
        with open_regular(path) as stream:
            stream.seek(max(begin, stream.seek(0, 2) - size_max))
            text = sanitize(stream.read(size_max))
    except OSError:
        return []
    return [line.rstrip() for line in text.rstrip().split("\n")]


def _shown(data: bytes) -> str:
    """Long lines end early: a browser lays them out as slowly as they are long."""
    lines = sanitize(data).split("\n")
    return "\n".join(
        line if len(line) <= _LINE_MAX else f"{line[:_LINE_MAX]}… ({len(line)} characters)"
        for line in lines
    )


def find_failures(logs: Sequence[LogText]) -> list[FailureLine]:
    """The first lines that look like a failure, in the order of `logs`; else the last ones.

    The last ones are those of the first log.
    """
    found = (FailureLine(log.name, line.strip()) for log in logs if log.name.endswith(".log")
             for line in log.lines if _FAILURE.search(line))  # fmt: skip
    shown = [one for one, _ in zip(found, range(FAILURES_MAX), strict=False)]
    if shown or not logs:
        return shown
    last = [line for line in logs[0].lines if line.strip()][-_LAST_LINES:]
    return [FailureLine(logs[0].name, line) for line in last]


def read_phases(logs: Sequence[LogText]) -> list[Phase]:
    """The phases in state.log, in the order in which they began; seconds since the first."""
    texts = [log for log in logs if log.name == _STATE_LOG]
    events = [event for log in texts for line in log.lines for event in _parse_event(line)]
    if not events:
        return []
    origin = events[0][0]
    open_phases: list[int] = []
    phases: list[Phase] = []
    for moment, word, name in events[: 2 * _PHASES_MAX]:
        at = max(0.0, moment - origin)
        if word == "Start":
            open_phases.append(len(phases))
            phases.append(Phase(name, len(open_phases) - 1, at, None))
            continue
        for number in reversed(open_phases):
            if phases[number].name == name:
                phase = phases[number]
                phases[number] = Phase(name, phase.depth, phase.start_s, max(at, phase.start_s))
                open_phases.remove(number)
                break
    return phases


def has_failed(phases: Sequence[Phase]) -> bool:
    """Whether mock's last run did not end: it finishes each state but this one when it fails."""
    runs = [phase for phase in phases if phase.name == _RUN]
    return bool(runs) and runs[-1].end_s is None


def _parse_event(line: str) -> Iterator[tuple[float, str, str]]:
    match = _PHASE.fullmatch(line)
    if match is None:
        return
    try:
        moment = datetime.strptime(match[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=timezone.utc)
    except ValueError:
        return
    yield moment.timestamp() + int(match[2]) / 1000, match[3], match[4][:200]
