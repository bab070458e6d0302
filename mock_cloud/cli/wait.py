# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud wait`: until jobs have ended."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Final

from mock_cloud.console import Console
from mock_cloud.errors import EXIT_INFRASTRUCTURE
from mock_cloud.steps.job.job_list import find_view, start_keeper

if TYPE_CHECKING:
    from mock_cloud.cli.verbs import Verbs

_WAIT_S: Final = 0.5


def add_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "wait",
        help="wait for jobs",
        description="Wait until jobs have ended and their results are here. The exit code is that"
        " of the first one that failed, in the order given, else 0.",
        epilog="example: mock-cloud wait 1f2e3d4c 5a6b7c8d",
    )
    parser.add_argument("job", nargs="+", metavar="JOB", help="its name, or the end of it")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, console: Console) -> int:
    # First, so that a wrong name is not found hours later.
    jobs = [find_view(name).job.id for name in arguments.job]
    codes = [_await(job) for job in jobs]
    return next((code for code in codes if code), 0)


def _await(name: str) -> int:
    """Wait until the job has ended and its results are here; its exit code."""
    started = False
    while True:
        view = find_view(name)
        if view.state == "ended":
            return EXIT_INFRASTRUCTURE if view.job.exit is None else view.job.exit
        if view.state == "lost":
            return EXIT_INFRASTRUCTURE
        if view.state == "left" and not started:
            start_keeper(view.job)
            started = True
        time.sleep(_WAIT_S)
