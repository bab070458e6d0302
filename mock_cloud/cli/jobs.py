# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud jobs`: what builds, and what waits to be fetched."""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING

from mock_cloud.console import Console, print_table
from mock_cloud.steps.job.job_list import JobView, view_jobs

if TYPE_CHECKING:
    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]

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
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, console: Console) -> int:
    views = [one for one in view_jobs() if arguments.all or one.state not in ("ended", "lost")]
    if arguments.json:
        print(json.dumps([one.to_json() for one in views], indent=2))
    elif views:
        print_table([_HEAD, *map(_cells, views)])
    else:
        console.info("no jobs")
    return 0


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
