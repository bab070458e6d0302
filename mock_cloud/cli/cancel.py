# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud cancel`: stop jobs."""

from __future__ import annotations

import argparse
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mock_cloud.cli.attach import load_job_remote
from mock_cloud.console import Console
from mock_cloud.errors import EXIT_INTERRUPTED, CloudError, MockCloudError
from mock_cloud.steps.job.job_list import JobView, find_view

if TYPE_CHECKING:
    from mock_cloud.cli.verbs import Verbs

_LOOK_S: Final = 0.1
_STOP_S: Final = 60.0


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
    codes = []
    for name in arguments.job:
        try:
            _cancel(name, console, arguments.configdir)
        except MockCloudError as error:  # the others are stopped all the same
            console.failure(error)
            codes.append(error.exit_code)
    return next(iter(codes), 0)


def _cancel(name: str, console: Console, configdir: Path | None) -> None:
    """Stop a job and keep its logs. InputError; TransportError where its node is not reached."""
    view = find_view(name)
    job = view.job
    if view.state in ("starting", "running"):
        os.kill(job.holder.pid, signal.SIGINT)
        until = time.monotonic() + _STOP_S
        while job.holder.alive and time.monotonic() < until:
            time.sleep(_LOOK_S)
        if job.holder.alive:
            raise CloudError(f"process {job.holder.pid} of job {job.id} has not ended yet")
    elif view.state == "left":
        from mock_cloud.session import take_up  # large, and a command that follows it needs none

        take_up(job, load_job_remote(job, configdir), console, is_cancelled=True)
    _tell_end(find_view(job.id), console)


def _tell_end(view: JobView, console: Console) -> None:
    job = view.job
    if view.state == "lost":
        console.warning(f"job {job.id} is lost: its node has ended")
    elif view.state != "ended":
        console.warning(f"job {job.id} is stopped in the background: mock-cloud jobs lists it")
    elif job.exit == EXIT_INTERRUPTED:
        console.info(f"job {job.id} was stopped")
    else:
        console.info(f"job {job.id} has ended")
