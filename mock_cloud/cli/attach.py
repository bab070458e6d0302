# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud attach`: take up a job again, to its end."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, NoReturn

from mock_cloud.cloud.jobs import JobRecord
from mock_cloud.cloud.journal import Journal
from mock_cloud.cloud.lease import Holder, LeaseState
from mock_cloud.console import Console
from mock_cloud.errors import EXIT_INFRASTRUCTURE, ChrootLocked, InputError, NodeGone
from mock_cloud.exit_status import Stopped, interruptible
from mock_cloud.places import state_dir
from mock_cloud.progress.timeline import PROGRESS_MODES, ProgressMode
from mock_cloud.steps.job.job_list import find_view
from mock_cloud.wire.terminal_text import Sanitizer

# Who attaches to a build that a command in the background follows is shown a file: what takes up a
# job itself is loaded by that alone.
if TYPE_CHECKING:
    from mock_cloud.cli.verbs import Verbs
    from mock_cloud.settings import Remote

_AFTER_S: Final = 60.0
_BLOCK_BYTES: Final = 1 << 16
_LOOK_S: Final = 0.1


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
    parser.add_argument(
        "--progress", choices=PROGRESS_MODES, default="auto", help="how far it is, as for mock"
    )
    parser.add_argument(
        "--shell",
        action="store_true",
        help="a shell in its chroot instead, if a build with --no-cleanup-after left that",
    )
    parser.add_argument("--after", type=int, help=argparse.SUPPRESS)  # in the background
    parser.add_argument("--cancel", action="store_true", help=argparse.SUPPRESS)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, console: Console) -> int:
    console.set_progress(ProgressMode(arguments.progress))
    if arguments.shell:
        _become_shell(find_view(arguments.job).job)
    if arguments.after is None:
        return _attach(arguments.job, console, arguments.configdir)
    from mock_cloud.session import take_up

    until = time.monotonic() + _AFTER_S
    while Holder.of(arguments.after) is not None and time.monotonic() < until:
        time.sleep(0.05)
    job = find_view(arguments.job).job
    remote = load_job_remote(job, arguments.configdir)
    return take_up(job, remote, console, is_cancelled=arguments.cancel, is_keeper=True)


def _attach(name: str, console: Console, configdir: Path | None) -> int:
    """Show what a job prints until it ends; its exit code.

    One that no command follows is taken up. Ctrl-C stops the job; a second one, or a closed
    terminal, leaves it to itself. InputError, NodeGone, ChrootLocked.
    """
    view = find_view(name)
    while view.state in ("starting", "running"):
        if not view.job.printed:
            raise ChrootLocked(
                f"job {view.job.id} is followed by process {view.job.holder.pid}",
                hint=f"mock-cloud logs --follow {view.job.id} shows its logs",
            )
        _watch(view.job, console)
        view = find_view(view.job.id)
    job = view.job
    if view.state == "left":
        from mock_cloud.session import take_up

        return take_up(job, load_job_remote(job, configdir), console)
    if view.state == "lost":
        raise NodeGone(f"job {job.id} is lost: its node has ended", hint="build again")
    if job.problem:
        console.error(job.problem)
    else:
        console.info(f"job {job.id} has ended: results and logs are in {job.resultdir}")
    return EXIT_INFRASTRUCTURE if job.exit is None else job.exit


def _become_shell(job: JobRecord) -> NoReturn:
    """Become `mock --shell` in the job's chroot, on the node where that is. InputError."""
    if not any(
        lease.remote == job.remote
        and job.chroot in lease.chroots
        and lease.state is not LeaseState.GONE
        for lease in Journal(state_dir()).leases()
    ):
        raise InputError(
            f"chroot {job.chroot} of job {job.id} is on no node",
            hint="build with --no-cleanup-after: it is there for as long as its node is kept",
        )
    from mock_cloud.invocation.parser import parse_command_line

    line = parse_command_line(job.argv, {})
    words = ["--remote", job.remote, "-r", line.chroot, "--shell"]
    words += ["--configdir", line.configdir] if line.configdir else []
    words += ["--uniqueext", line.uniqueext] if line.uniqueext else []
    words += [f"--config-opts={one}" for one in line.cli_config_opts]
    os.chdir(job.cwd)
    os.execv(sys.executable, [sys.executable, "-m", "mock_cloud.launcher", *words])  # noqa: S606


def load_job_remote(job: JobRecord, configdir: Path | None) -> Remote:
    """The remote of a job, from the directory that its command named. ConfigError."""
    from mock_cloud.config.remotes import load_remote

    return load_remote(job.remote, Path(job.configdir) if job.configdir else configdir)


def _watch(job: JobRecord, console: Console) -> None:
    """Show what the job's command in the background prints, until it ends."""
    try:
        with interruptible(), Path(job.printed).open("rb") as printed:
            _show(job, printed, console)
    except Stopped as stopped:
        if stopped.number != signal.SIGINT or not job.is_followed:
            raise
        os.kill(job.holder.pid, signal.SIGINT)
        console.warning("stopping the job; Ctrl-C again leaves it to itself")
        with interruptible(), Path(job.printed).open("rb") as printed:
            printed.seek(0, os.SEEK_END)
            _show(job, printed, console)


def _show(job: JobRecord, printed: BinaryIO, console: Console) -> None:
    cleaner = Sanitizer()
    while True:
        alive = job.holder.alive
        while data := printed.read(_BLOCK_BYTES):
            console.text(cleaner.feed(data))
        if not alive:
            return
        time.sleep(_LOOK_S)
