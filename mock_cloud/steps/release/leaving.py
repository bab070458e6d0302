# SPDX-License-Identifier: GPL-2.0-or-later
"""Step 8: what lives on the node is noted, and it is given back; or it is left as it was found."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from mock_cloud.cloud.jobs import JobRecord
from mock_cloud.cloud.leased import LeasedNode
from mock_cloud.errors import (
    EXIT_INFRASTRUCTURE,
    CloudError,
    JournalError,
    LocalResultError,
    MockCloudError,
    NodeGone,
    RemoteCommandError,
    ResultDirError,
    TransportError,
)
from mock_cloud.exit_status import Stopped
from mock_cloud.steps.attest.hardening import timer
from mock_cloud.steps.context import Build
from mock_cloud.steps.job.job_list import ended, evidence_path
from mock_cloud.wire.replies import Cause, JobEnd

_DRAIN_S: Final = 20.0


def release_node(build: Build, end: JobEnd) -> None:
    """Note what lives on the node now, and give it back.

    The results are here: what fails here costs a warning, and the node at most.
    """
    console, leased = build.console, build.leased
    try:
        with leased.noting_together():
            leased.record_layers(end.layers)  # that may be reused; none if the job vanished
            note_chroots(build, end)
            if build.shadow is not None:
                leased.reserve(build.shadow.reserved_after(build.planned, end))
            if build.is_kept:
                problem = end.message if end.cause is not Cause.NONE else ""
                build.row = ended(build.row, end.exit, problem)
                leased.note_job(build.row, over=True)
    except JournalError as error:
        console.warning(f"the node is left as it is: {error.message}")
        leased.forsake()
        return
    except CloudError as error:
        console.warning(error.message)
        leased.forsake()
        return
    with suppress(MockCloudError, OSError):
        evidence_path(build.job).unlink(missing_ok=True)
    with suppress(MockCloudError):  # the next command there removes it, and sets its timer
        build.connection.channel.forget(build.job)
        if build.hardening is not None:  # it waits for nobody longer than an idle one does
            build.connection.channel.harden(timer(leased, build.hardening, idle=True))
    if end.exit in (None, EXIT_INFRASTRUCTURE):
        return
    try:
        leave_node(build)
        build.host_keys.settle()
        build.connection.close()
        leased.release(keep=True)
    except MockCloudError as error:
        console.warning(f"the node was not given back: {error.message}")
        leased.forsake()


def leave_node(build: Build) -> None:
    """Leave the node to the commands beside this one. The last one tidies up.

    Jobs of commands that died are ended; and if code that nobody signed was root on the node,
    no key that it may have seen stays. Idempotent.
    """
    left = build.leased.leave(foreign=build.row.foreign)
    if left is None:
        return
    if not all(_end_job(build, guest.job) for guest in left.guests if guest.job):
        build.leased.destroy()
    elif left.foreign:
        build.host_keys.renew()


def _end_job(build: Build, job: str) -> bool:
    """End the job of a command that died, note what it left; whether nothing of it runs."""
    channel = build.connection.channel
    if not channel.cancel_job(job):
        return False
    with suppress(RemoteCommandError):  # its directory may be gone
        end = channel.follow_job(job, {}, lambda *_: None, within_s=_DRAIN_S)
        build.leased.add_layers(end.layers)
    return True


def note_chroots(build: Build, end: JobEnd) -> None:
    """Journal which chroots live on the node now."""
    root, leased = build.row.chroot, build.leased
    others = tuple(name for name in leased.chroots if name != root)
    stays = bool(end.chroots) and (build.work or not leased.lives_elsewhere(root))
    leased.record_chroots((*others, root) if stays else others)


@contextmanager
def explained_end(leased: LeasedNode) -> Iterator[None]:
    """Where the node is lost, the failure says why: its life is over, or somebody ended it."""
    try:
        yield
    except (TransportError, CloudError) as error:
        if not isinstance(error, JournalError) and error.retryable:
            _explain_end(leased, error)
        raise


def _explain_end(leased: LeasedNode, error: MockCloudError) -> None:
    if time.time() >= leased.expires_unix:
        error.message = f"{error.message}; the node reached the end of its life"
        error.hint = "raise [lease] max_ttl in the remote's file"
        # Another one lives no longer, unless this one had lived before.
        error.retryable = leased.builds > 1
        return
    with suppress(JournalError):
        if leased.was_given_back:
            error.message = f"{error.message}; mock-cloud release gave the node back"
            error.hint = "run the command again, if it was not to end"
            error.retryable = False
            return
    if isinstance(error, TransportError):
        reason = leased.find_end()
        if reason:
            error.message = f"{error.message}; the cloud ended the node: {reason}"


@contextmanager
def left_as_found(leased: LeasedNode, leave: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Where no job runs, a node outlives what is wrong with this machine; a warm one, Ctrl-C too.

    `leave` is called before it does.
    """
    try:
        yield
    except Stopped:
        leave()
        leased.spared = leased.builds > 1
        raise
    except (JournalError, LocalResultError, ResultDirError):
        leave()
        leased.spared = True
        raise


@contextmanager
def left_for_later(leased: LeasedNode, job: JobRecord, is_kept: bool = True) -> Iterator[None]:
    """What is wrong with this machine leaves the job on its node: `mock-cloud attach` goes on."""
    try:
        yield
    except (JournalError, LocalResultError, ResultDirError) as error:
        if not is_kept:
            raise
        leased.spared = True
        leased.forsake()
        before = f"{error.hint}; " if error.hint else ""
        error.hint = f"{before}mock-cloud attach {job.id} then fetches what waits on the node"
        raise


@contextmanager
def left_alone(leased: LeasedNode) -> Iterator[None]:
    """What stops the block, or does not reach the node, leaves the job as it was."""
    try:
        yield
    except (Stopped, TransportError) as error:
        if not isinstance(error, NodeGone):
            leased.spared = True
            leased.forsake()
        raise
