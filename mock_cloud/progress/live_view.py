# SPDX-License-Identifier: GPL-2.0-or-later
"""The live view of one command on a terminal: a table of phases below the lines, drawn by rich.

rich lays out and colours; where the table stands and when it goes is the console's business. It is
imported here alone, and this module only where there is a terminal.
"""

from __future__ import annotations

import io
import os
import re
import sys
import time
from collections.abc import Sequence
from typing import Final

from rich.console import Console as RichConsole
from rich.console import RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mock_cloud.progress.printers import Silent
from mock_cloud.progress.timeline import (
    BuildPhase,
    Timeline,
    show_bytes,
    show_money,
    show_time,
    show_transfer,
    sum_up,
)
from mock_cloud.wire.terminal_text import printable

_ASCII: Final = str.maketrans({"▸": ">", "·": "-", "…": "~", "━": "=", "╸": "=", "╺": "-"})
_NARROW: Final = 60
"""Below so many columns there is no bar."""
_RENDER_EVERY_S: Final = 0.1
_REMOTE: Final = re.compile(r"^remote \S+: ")


def terminal_size(descriptor: int) -> tuple[int, int]:
    """Columns and rows of the terminal now: it may be resized at any time."""
    try:
        columns, rows = os.get_terminal_size(descriptor)
    except OSError:
        columns = rows = 0
    return columns or 80, rows or 24


def render(content: RenderableType, columns: int, rows: int = 0) -> list[str]:
    """`content` as lines for a terminal, at most `rows` of them if that is given, the last ones."""
    screen = RichConsole(
        file=io.StringIO(),
        force_terminal=True,
        width=max(10, columns),
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,
    )
    with screen.capture() as captured:
        screen.print(content, end="")
    lines = captured.get().rstrip("\n").split("\n")
    if not (sys.stderr.encoding or "").lower().startswith("utf"):
        lines = [line.translate(_ASCII) for line in lines]
    return lines[-rows:] if rows else lines


def phase_table(timeline: Timeline, columns: int) -> Table:
    """All phases with what each took, the one that goes on with what happens in it."""
    table = Table.grid(padding=(0, 1), expand=False)
    table.add_column(width=1)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=max(8, columns - 24))
    now_s = timeline.clock()
    for phase in timeline.phases:
        goes_on = phase.ended_s is None
        table.add_row(
            Text("▸" if goes_on else "·", "bold cyan" if goes_on else "dim"),
            Text(phase.name, "bold" if goes_on else ""),
            Text(show_time(phase.took_s(now_s)), "cyan" if goes_on else "dim"),
            _what(phase, now_s, columns),
        )
    return table


def _what(phase: BuildPhase, now_s: float, columns: int) -> RenderableType:
    moved = show_transfer(phase, now_s)
    if phase.ended_s is not None:
        return Text(moved, "dim")
    detail = _REMOTE.sub("", printable(phase.detail))
    text = Text(moved or detail, no_wrap=True, overflow="ellipsis")
    transfer = phase.transfer
    if transfer is None or not transfer.total_bytes or columns < _NARROW:
        return text
    both = Table.grid(padding=(0, 1))
    both.add_row(
        ProgressBar(total=transfer.total_bytes, completed=transfer.done_bytes, width=12), text
    )
    return both


def running_totals(timeline: Timeline) -> str:
    """``3:46 in all, 0.02 USD so far, about 1:10 left``."""
    parts = [f"{show_time(timeline.took_s)} in all"]
    if timeline.moved_bytes:
        parts.append(show_bytes(timeline.moved_bytes))
    if timeline.price is not None and timeline.cost is not None:
        parts.append(f"cost {show_money(timeline.cost, timeline.price)} so far")
    if timeline.left_s is not None:
        parts.append(f"about {show_time(timeline.left_s)} left")
    return ", ".join(parts)


def one_build(timeline: Timeline, columns: int) -> RenderableType:
    """The view of one command."""
    whole = Table.grid()
    whole.add_column(no_wrap=True, overflow="ellipsis")
    whole.add_row(phase_table(timeline, columns))
    whole.add_row(Text(f"  {running_totals(timeline)}", "dim", no_wrap=True, overflow="ellipsis"))
    return whole


def what_stays(timeline: Timeline, columns: int) -> RenderableType:
    """The table once more, and what it all took: this is not erased."""
    whole = Table.grid()
    whole.add_column()
    whole.add_row(phase_table(timeline, columns))
    for line in sum_up(timeline, time.time()):
        whole.add_row(Text(f"  {line}", "bold", overflow="fold"))
    return whole


class Live(Silent):
    """The printer for a terminal, the open file `descriptor`."""

    def __init__(self, timeline: Timeline, descriptor: int) -> None:
        self._timeline = timeline
        self._descriptor = descriptor
        self._lines: Sequence[str] = ()
        self._drawn_at = float("-inf")
        self._drawn_for = (0, 0)

    def finished(self, timeline: Timeline) -> str:
        columns, _ = terminal_size(self._descriptor)
        return "".join(
            f"{line}\n" for line in render(what_stays(timeline, columns - 1), columns - 1)
        )

    def view(self) -> Sequence[str]:
        now, size = self._timeline.clock(), terminal_size(self._descriptor)
        if now - self._drawn_at >= _RENDER_EVERY_S or size != self._drawn_for:
            columns, rows = size
            content = one_build(self._timeline, columns - 1)
            self._lines = render(content, columns - 1, max(1, rows - 1))
            self._drawn_at, self._drawn_for = now, size
        return self._lines
