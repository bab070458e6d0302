# SPDX-License-Identifier: GPL-2.0-or-later
"""Many jobs as a table on a terminal, drawn by rich: `mock-cloud jobs --watch`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import Final

from rich.table import Table
from rich.text import Text

from mock_cloud.progress.live_view import render, terminal_size
from mock_cloud.progress.printers import Silent
from mock_cloud.progress.timeline import show_time
from mock_cloud.report.logs import read_end
from mock_cloud.steps.job.job_list import JobView, find_log
from mock_cloud.wire.terminal_text import printable

_WIDE: Final = 100
_TAIL_BYTES: Final = 2048
_STYLES: Final = {"running": "cyan", "left": "yellow", "lost": "bold red", "ended": "dim"}


class JobsTable(Silent):
    """A row for each job that `find` returns, on the terminal `descriptor`."""

    def __init__(self, find: Callable[[], Sequence[JobView]], descriptor: int) -> None:
        self._find = find
        self._descriptor = descriptor

    def view(self) -> Sequence[str]:
        columns, rows = terminal_size(self._descriptor)
        return render(jobs_table(self._find(), columns - 1), columns - 1, max(1, rows - 1))


def jobs_table(views: Sequence[JobView], columns: int) -> Table:
    """The jobs, and what they cost in all; where there is room, also what each does now."""
    wide = columns >= _WIDE
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold", expand=True)
    heads = ["JOB", "WHAT", "STATE", "TIME", *(["UNTIL", "COST", "NOW"] if wide else [])]
    for head in heads:
        table.add_column(
            head,
            justify="right" if head in ("TIME", "COST") else "left",
            no_wrap=True,
            overflow="ellipsis",
            # What the others leave: only this one is cut.
            ratio=1 if head == ("NOW" if wide else "WHAT") else None,
        )
    for view in views:
        table.add_row(*_cells(view, wide=wide))
    costs = [view.cost for view in views if view.cost is not None]
    running = sum(view.state in ("starting", "running") for view in views)
    total = f"{running} of {len(views)} run" + (f", cost {sum(costs):.2f} so far" if costs else "")
    table.caption, table.caption_justify = Text(total, "dim"), "left"
    return table


def _cells(view: JobView, *, wide: bool) -> list[Text]:
    job = view.job
    ended = job.ended_unix if view.state == "ended" and job.ended_unix else time.time()
    state = f"{view.state} {job.exit}" if view.state == "ended" and job.exit else view.state
    style = "bold red" if view.state == "ended" and job.exit else _STYLES.get(view.state, "")
    cells = [
        Text(job.id[-8:], "dim"),
        Text(_what(view)),
        Text(state, style),
        Text(show_time(max(0.0, ended - job.started_unix))),
    ]
    if wide:
        until = view.until_unix
        cells += [
            Text("" if until is None else time.strftime("%H:%M", time.localtime(until))),
            Text("" if view.cost is None else f"{view.cost:.2f}"),
            Text(_now(view) if view.state == "running" else "", "dim"),
        ]
    return cells


def _what(view: JobView) -> str:
    """``hello-2.12-1 on cloud``, or the mode where no package is named."""
    job = view.job
    named = [PurePath(word).name for word in job.argv if word.endswith(".src.rpm")]
    first = named[0].removesuffix(".src.rpm") if named else f"--{job.mode}"
    more = f" +{len(named) - 1}" if len(named) > 1 else ""
    return printable(f"{first}{more} on {job.remote}")


def _now(view: JobView) -> str:
    """The last line of its log that says anything: a node's words."""
    lines = read_end(*find_log(view.job, None), _TAIL_BYTES)
    return printable(lines[-1].strip()) if lines else ""
