# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud attach`: take up a job again, to its end."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mock_cloud.console import Console

if TYPE_CHECKING:
    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]

_AFTER_S: Final = 60.0


def add_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "attach",
        help="take up a job again",
        description="Show what a job prints until it ends, fetch its results, and exit as its own"
        " command would have: after --detach, a closed terminal, or where the command was killed."
        " Ctrl-C stops the job; a second one leaves it to itself.",
        epilog="example: mock-cloud attach 20261129-101500-1f2e3d4c",
    )
    parser.add_argument("job", metavar="JOB", help="its name, or the end of it")
    parser.add_argument("--configdir", metavar="DIR", type=Path, help="instead of /etc/mock")
    parser.add_argument("--after", type=int, help=argparse.SUPPRESS)  # in the background
    parser.add_argument("--cancel", action="store_true", help=argparse.SUPPRESS)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, console: Console) -> int:
    # The SSH layer takes longer to load than what other verbs do.
    from mock_cloud.cloud.lease import Holder
    from mock_cloud.steps.job.attached import attach, follow_left, load_job_remote
    from mock_cloud.steps.job.job_list import find_view

    if arguments.after is None:
        return attach(arguments.job, console, arguments.configdir)
    until = time.monotonic() + _AFTER_S
    while Holder.of(arguments.after) is not None and time.monotonic() < until:
        time.sleep(0.05)
    job = find_view(arguments.job).job
    remote = load_job_remote(job, arguments.configdir)
    return follow_left(job, remote, console, is_cancelled=arguments.cancel, is_keeper=True)
