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
from mock_cloud.errors import CloudError
from mock_cloud.session import take_up
from mock_cloud.steps.job.job_list import find_view

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
    for name in arguments.job:
        _cancel(name, console, arguments.configdir)
    return 0


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
        take_up(job, load_job_remote(job, configdir), console, is_cancelled=True)
    console.info(f"job {job.id} was stopped" if view.state != "ended" else f"{job.id} has ended")
