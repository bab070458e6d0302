# SPDX-License-Identifier: GPL-2.0-or-later
"""A job that another command began, from where it is to its end: steps 5 to 8 of the story."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Final

from mock_cloud.cloud.jobs import JobRecord
from mock_cloud.cloud.lease import Holder
from mock_cloud.cloud.leased import LeasedNode
from mock_cloud.cloud.pool import take_up
from mock_cloud.config.remotes import load_remote
from mock_cloud.console import Console
from mock_cloud.errors import (
    EXIT_INFRASTRUCTURE,
    EXIT_INTERRUPTED,
    ChrootLocked,
    CloudError,
    NodeGone,
    TransportError,
)
from mock_cloud.exit_status import Stopped, interruptible
from mock_cloud.places import state_dir
from mock_cloud.results.resultdir import ResultDir
from mock_cloud.settings import Remote, SecondLook
from mock_cloud.steps.attest.hardening import HostKeys, plan_care
from mock_cloud.steps.attest.known_good_sets import KnownGoods
from mock_cloud.steps.attest.verdicts import look_again
from mock_cloud.steps.job.job_list import ended, find_view, log_names, printed_path, start_keeper
from mock_cloud.steps.job.run_job import OnResults, Run, cancelling, follow_run, noted_end, stop_job
from mock_cloud.steps.lease.node import Site
from mock_cloud.steps.results.concluding import finish_job, left_for_later
from mock_cloud.steps.results.mirror import Mirror
from mock_cloud.steps.sign.own_key import find_signer
from mock_cloud.steps.sign.record import Record
from mock_cloud.wire.terminal_text import Sanitizer

_BLOCK_BYTES: Final = 1 << 16
_LOOK_S: Final = 0.1
_WAIT_S: Final = 0.5
_STOP_S: Final = 60.0


def follow_left(
    job: JobRecord,
    remote: Remote,
    console: Console,
    on_results: OnResults = lambda directory, placed: None,
    *,
    is_cancelled: bool = False,
    is_keeper: bool = False,
) -> int:
    """Take up a job that nobody follows, and return mock's exit code as its own command would have.

    The node is reached under the lease's pinned host key, and is the one that was attested if it
    has not been started anew since (docs/decisions/0141). Until it is reached, whatever stops this
    leaves the job as it was. `is_cancelled`: stop it, keep its logs. `is_keeper`: in the
    background. MockCloudError, Stopped.
    """
    leased = take_up(remote, job, state_dir())
    with ExitStack() as stack:
        stack.enter_context(leased)
        with left_alone(leased), left_for_later(leased, job):
            site = Site.of_user(console, remote, leased.arch)
            resultdir = stack.enter_context(
                ResultDir.open(Path(job.resultdir), packages=job.packages)
            )
            mirror = stack.enter_context(closing(Mirror(resultdir, console, raw=False)))
            mirror.resume(job.logs, log_names(job.packages))
            signer = find_signer(remote, console) if job.draft else None
            record = Record(signer, remote, console, job.builds)
            care = plan_care(remote.provider, leased, remote.lease.grace_s)
            renewable = care is not None and care.renew_host_key
            keys = HostKeys(None, leased, console, renewable=renewable)
            printed = str(printed_path(job.id)) if is_keeper else ""
            row = replace(job, holder=Holder.me(), printed=printed)
            this = Run(row, remote, site, leased, care, keys, mirror, record.noting(on_results))
            this.is_kept = True
            if job.tunnelled:
                console.warning(
                    f"job {job.id} had repositories through this machine, which are closed now:"
                    " if it has not installed all packages, it fails"
                )
            stack.enter_context(closing(this))
            this.note(row)
            console.phase(f"remote {remote.name}: connecting to {leased.address}")
            this.reach()
        stack.enter_context(noted_end(this))
        if is_cancelled:
            return _end(this)
        with cancelling(this):
            end = follow_run(this)
        with left_for_later(leased, job):
            return finish_job(this, end, lambda _: _look_again(this), lambda: record.write(this))


def _end(this: Run) -> int:
    """Stop the job. Its node stays, if nothing of it is left there."""
    stop_job(this)
    if this.leased.is_forsaken:  # another command does
        return EXIT_INTERRUPTED
    this.note(ended(this.row, EXIT_INTERRUPTED, "cancelled"))
    if not this.leased.spared:
        this.leased.destroy()
    return EXIT_INTERRUPTED


def _look_again(this: Run) -> None:
    if this.node is not None and this.remote.attest.second_look is SecondLook.ALWAYS:
        known = KnownGoods(this.remote, this.leased.arch).of(this.leased)
        look_again(
            this.node, this.leased, known, this.remote, this.site, this.mirror.resultdir.path
        )


@contextmanager
def left_alone(leased: LeasedNode) -> Iterator[None]:
    """Whoever stops the block, or does not reach the node, leaves the job as it was."""
    try:
        yield
    except (Stopped, TransportError) as error:
        if not isinstance(error, NodeGone):
            leased.spared = True
            leased.forsake()
        raise


def attach(name: str, console: Console, configdir: Path | None) -> int:
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
        return follow_left(job, load_job_remote(job, configdir), console)
    if view.state == "lost":
        raise NodeGone(f"job {job.id} is lost: its node has ended", hint="build again")
    if job.problem:
        console.error(job.problem)
    else:
        console.info(f"job {job.id} has ended: results and logs are in {job.resultdir}")
    return EXIT_INFRASTRUCTURE if job.exit is None else job.exit


def load_job_remote(job: JobRecord, configdir: Path | None) -> Remote:
    """The remote of a job, from the directory that its command named. ConfigError."""
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


def cancel_job(name: str, console: Console, configdir: Path | None) -> None:
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
        follow_left(job, load_job_remote(job, configdir), console, is_cancelled=True)
    console.info(f"job {job.id} was stopped" if view.state != "ended" else f"{job.id} has ended")


def await_job(name: str) -> int:
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
