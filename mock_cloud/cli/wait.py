# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud wait`: until jobs have ended."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from mock_cloud.console import Console

if TYPE_CHECKING:
    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]


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
    from mock_cloud.steps.job.attached import await_job  # SSH takes long to load

    codes = [await_job(name) for name in arguments.job]
    return next((code for code in codes if code), 0)
