# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud cancel`: stop jobs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mock_cloud.console import Console

if TYPE_CHECKING:
    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "cancel",
        help="stop jobs",
        description="Stop jobs on their nodes. Their logs come here, and the nodes stay warm.",
        epilog="example: mock-cloud cancel 1f2e3d4c",
    )
    parser.add_argument("job", nargs="+", metavar="JOB", help="its name, or the end of it")
    parser.add_argument("--configdir", metavar="DIR", type=Path, help="instead of /etc/mock")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, console: Console) -> int:
    from mock_cloud.steps.job.attached import cancel_job  # SSH takes long to load

    for name in arguments.job:
        cancel_job(name, console, arguments.configdir)
    return 0
