# SPDX-License-Identifier: GPL-2.0-or-later
"""After the job: its results come here, the node's state is noted, and mock's exit code is told."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from mock_cloud.cloud.jobs import JobRecord
from mock_cloud.cloud.leased import LeasedNode
from mock_cloud.errors import (
    EXIT_INFRASTRUCTURE,
    CloudError,
    InputError,
    JournalError,
    LocalResultError,
    MockCloudError,
    ResultDirError,
    TransportError,
)
from mock_cloud.remote.trusted import TrustedChannel
from mock_cloud.steps.job.job_list import ended, evidence_path
from mock_cloud.steps.job.run_job import Run
from mock_cloud.steps.results.copyout import bring_back, unpack_copyout
from mock_cloud.steps.results.mirror import collect
from mock_cloud.wire.replies import JobEnd

_LOGLESS_MODES: Final = ("shell", "clean")
_PACKAGE_MANAGER_FAILED: Final = 30  # mock's YumError
_NOTE_TRIES: Final = 3


def finish_job(
    this: Run, end: JobEnd, look_again: Callable[[TrustedChannel], None], sign: Callable[[], None]
) -> int:
    """Bring the results here before anything else; then note what lives on the node.

    `look_again` may object to results, `sign` is called once they are in place. mock's exit code,
    or TransportError or CloudError where the node, not the package, was at fault. ResultError,
    LocalResultError: the results are still on the node.
    """
    is_nodes_fault = end.exit in (None, EXIT_INFRASTRUCTURE)
    try:
        _publish(this, end, look_again, is_nodes_fault=is_nodes_fault)
    except BaseException:
        this.mirror.say_last(arrived=False)
        raise
    this.mirror.say_last(arrived=True)
    if not is_nodes_fault:
        sign()
    if this.row.mode == "clean" and this.row.removes:  # as mock does with the chroot's directory
        shutil.rmtree(this.row.removes, ignore_errors=True)
    _leave_node(this, end)
    if is_nodes_fault:
        raise _fault(this, end)
    if end.exit == _PACKAGE_MANAGER_FAILED and not this.row.online:
        this.site.console.warning(
            "--offline: packages come from the node's own cache, and a new node has none: run this"
            " once without --offline, and again on the node that is kept then ([lease] idle_ttl);"
            " nothing is cached from repositories with gpgcheck=0"
        )
    return end.exit or 0


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


def _publish(
    this: Run, end: JobEnd, look_again: Callable[[TrustedChannel], None], *, is_nodes_fault: bool
) -> None:
    """Bring results here; `look_again` may still object. Raises ResultError, TransportError."""
    row, console, place = this.row, this.site.console, this.mirror.resultdir.path
    if row.mode not in _LOGLESS_MODES:
        placed = collect(
            this.lasting,
            this.job,
            this.mirror,
            this.destination,
            console,
            lambda: this.lasting(look_again),
            logs_only=is_nodes_fault,
            has_plugins=row.uses_mock,
        )
        this.on_results(place, placed)
    work = this.work
    if is_nodes_fault or work is None:  # one that was taken up has none of these
        return
    shadow = this.mirror.shadow
    if shadow is not None:
        this.lasting(lambda channel: shadow.collect(channel, this.job, end, console))
    try:
        if work.returning:
            this.lasting(
                lambda channel: bring_back(channel, this.job, work.returning, place, console)
            )
        copyout = work.copyout
        if row.mode == "copyout" and copyout is not None and end.exit in (0, 1):
            # 1: some of it could not be copied, and mock copies the rest.
            this.lasting(
                lambda channel: unpack_copyout(
                    channel, this.job, work.args, copyout, whole=end.exit == 0
                )
            )
    except InputError:
        this.leased.spared = True  # the user's mistake must not cost the chroot
        raise


def _leave_node(this: Run, end: JobEnd) -> None:
    """Note what lives on the node now, and give it back.

    The results are here: what fails here costs a warning, and the node at most.
    """
    console = this.site.console
    for tries_left in reversed(range(_NOTE_TRIES)):
        try:
            this.leased.record_layers(end.layers)  # that may be reused; none if the job vanished
            this.note_chroots(end)
            if this.mirror.shadow is not None and this.work is not None:
                this.leased.reserve(this.mirror.shadow.reserved_after(this.work, end))
            if this.is_kept:
                this.row = ended(this.row, end.exit)
                this.leased.note_job(this.row, over=True)
            break
        except JournalError as error:  # each waits for its lock a while
            if not tries_left:
                console.warning(f"the node is left as it is: {error.message}")
                this.leased.forsake()
                return
        except CloudError as error:
            console.warning(error.message)
            this.leased.forsake()
            return
    with suppress(MockCloudError, OSError):
        evidence_path(this.row.id).unlink(missing_ok=True)
    with suppress(MockCloudError):  # whoever uses the node next removes it, and sets its timer
        this.channel.forget(this.job)
        this.rest()
    if end.exit in (None, EXIT_INFRASTRUCTURE):
        return
    try:
        this.leave()
        this.host_keys.settle()
        this.close()
        this.leased.release(keep=True)
    except MockCloudError as error:
        console.warning(f"the node was not given back: {error.message}")
        this.leased.forsake()


def _fault(this: Run, end: JobEnd) -> TransportError | CloudError:
    if end.exit is None:
        if this.row.builds:  # else the engine said so
            this.site.console.info(f"Results and/or logs in: {this.mirror.resultdir.path}")
        return TransportError(
            f"{this.leased.address}: the job vanished from the node without an exit status",
            hint="it was killed there, for memory perhaps; build again, or on a larger node",
        )
    return CloudError(
        f"{this.leased.address}: {end.message}",
        hint="nothing is wrong with the package: give the node more room, build again",
    )
