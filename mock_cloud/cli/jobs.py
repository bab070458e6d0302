# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud jobs`: what builds, and what waits to be fetched."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from mock_cloud.console import Console, print_table
from mock_cloud.progress.printers import Printer
from mock_cloud.steps.job.job_list import JobView, view_jobs

if TYPE_CHECKING:
    from mock_cloud.cli.verbs import Verbs

_LOOK_S = 1.0
_HEAD = ("JOB", "REMOTE", "CHROOT", "STATE", "STARTED", "UNTIL", "COST", "EXIT", "RESULTS")


def add_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "jobs",
        help="list jobs",
        description="List the jobs that run or wait on nodes for you: until when each one's node"
        " stays, and what that has cost so far. With --all those of the last weeks, too.",
        epilog="example: mock-cloud jobs --json",
    )
    parser.add_argument("--all", action="store_true", help="those that have ended, too")
    parser.add_argument("--json", action="store_true", help="print a JSON list")
    parser.add_argument(
        "--watch", action="store_true", help="go on until no job runs; Ctrl-C ends it earlier"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, console: Console) -> int:
    if arguments.watch:
        return _watch(arguments, console)
    views = _listed(arguments.all)
    if arguments.json:
        print(json.dumps([one.to_json() for one in views], indent=2))
    elif views:
        print_table([_HEAD, *map(_cells, views)])
    else:
        console.info("no jobs")
    return 0


def _listed(with_ended: bool, seen: Collection[str] = ()) -> list[JobView]:
    """Those that go on or wait; of those that have ended all, or the `seen` ones."""
    return [
        one
        for one in view_jobs()
        if with_ended or one.state not in ("ended", "lost") or one.job.id in seen
    ]


def _watch(arguments: argparse.Namespace, console: Console) -> int:
    """The table, kept up to date until no job runs; those that end meanwhile stay in it.

    Without a terminal it is printed whenever a job's state has changed; with --json in one line.
    """
    views = _listed(arguments.all)
    seen = {one.job.id for one in views}
    table: list[list[JobView]] = [views]

    def make(descriptor: int) -> Printer:
        from mock_cloud.cli.jobs_table import JobsTable

        return JobsTable(lambda: table[0], descriptor)

    is_drawn = not arguments.json and console.watch(make)
    told: list[tuple[str, str]] = []
    try:
        while True:
            states = [(one.job.id, one.state) for one in views]
            if not is_drawn and states != told:
                told = states
                _tell(views, console, is_json=arguments.json)
            if not any(one.state in ("starting", "running") for one in views):
                return 0
            time.sleep(_LOOK_S)
            views = table[0] = _listed(arguments.all, seen)
            seen |= {one.job.id for one in views}
    finally:
        if is_drawn:
            console.end_watch()


def _tell(views: Sequence[JobView], console: Console, *, is_json: bool) -> None:
    if is_json:
        print(json.dumps([one.to_json() for one in views]), flush=True)
    elif views:
        print_table([_HEAD, *map(_cells, views)])
    else:
        console.info("no jobs")
    sys.stdout.flush()


def _cells(view: JobView) -> tuple[str, ...]:
    job = view.job
    return (
        job.id,
        job.remote,
        job.chroot,
        view.state,
        _at(job.started_unix),
        _at(view.until_unix),
        "?" if view.cost is None else f"{view.cost:.2f}",
        "-" if job.exit is None else str(job.exit),
        job.resultdir,
    )


def _at(unix: float | None) -> str:
    return "-" if unix is None else time.strftime("%m-%d %H:%M", time.localtime(unix))
