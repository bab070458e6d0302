# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud logs`: what a job has logged."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Final

from mock_cloud.console import Console
from mock_cloud.errors import InputError
from mock_cloud.steps.job.job_list import find_log, find_view
from mock_cloud.wire.terminal_text import Sanitizer

if TYPE_CHECKING:
    from mock_cloud.cli.verbs import Verbs

_BLOCK_BYTES: Final = 1 << 16
_LOOK_S: Final = 0.2


def add_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "logs",
        help="print a job's log",
        description="Print what is here of a job's build.log, or of another one. A job that no"
        " command follows logs on its node: mock-cloud attach goes on.",
        epilog="example: mock-cloud logs --follow 1f2e3d4c",
    )
    parser.add_argument("job", metavar="JOB", help="its name, or the end of it")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the job ends")
    parser.add_argument("--log", metavar="LOG", help="root.log, state.log, PACKAGE/build.log, …")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, console: Console) -> int:
    view = find_view(arguments.job)
    path, begin = find_log(view.job, arguments.log)
    cleaner = Sanitizer()
    try:
        with path.open("rb") as log:
            log.seek(begin)
            while True:
                is_followed = view.job.holder.alive and view.state != "ended"
                while data := log.read(_BLOCK_BYTES):
                    sys.stdout.write(cleaner.feed(data))
                sys.stdout.flush()
                if not (arguments.follow and is_followed):
                    break
                time.sleep(_LOOK_S)
    except FileNotFoundError as error:
        raise InputError(f"there is no {path} yet") from error
    if find_view(view.job.id).state == "left":
        console.warning(f"the job goes on without a command: mock-cloud attach {view.job.id}")
    return 0
