# SPDX-License-Identifier: GPL-2.0-or-later
"""After the job: its results come here, the node's state is noted, and mock's exit code is told."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from mock_cloud.errors import (
    EXIT_INFRASTRUCTURE,
    CloudError,
    InputError,
    MockCloudError,
    TransportError,
)
from mock_cloud.session.copyout import bring_back, unpack_copyout
from mock_cloud.session.job import Run
from mock_cloud.session.results import collect
from mock_cloud.wire.replies import JobEnd

_LOGLESS_MODES: Final = ("shell", "clean")
_PACKAGE_MANAGER_FAILED: Final = 30  # mock's YumError


def publish(this: Run, end: JobEnd, look_again: Callable[[], None]) -> None:
    """Bring results here; `look_again` may still object. Raises ResultError, TransportError."""
    line, console = this.work.line, this.site.console
    if line.mode not in _LOGLESS_MODES:
        placed = collect(
            this.channel,
            this.job,
            this.mirror,
            this.destination,
            console,
            look_again,
            logs_only=end.exit in (None, EXIT_INFRASTRUCTURE),
            has_plugins=this.work.uses_mock,
        )
        this.on_results(this.mirror.resultdir.path, placed)
    shadow = this.mirror.shadow
    if shadow is not None and end.exit not in (None, EXIT_INFRASTRUCTURE):
        shadow.collect(this.channel, this.job, end, console)
    if this.work.returning and end.exit not in (None, EXIT_INFRASTRUCTURE):
        try:
            bring_back(
                this.channel, this.job, this.work.returning, this.mirror.resultdir.path, console
            )
        except InputError:
            this.leased.spared = True  # as below
            raise
    if line.mode == "copyout" and this.work.copyout is not None and end.exit in (0, 1):
        try:
            # 1: some of it could not be copied, and mock copies the rest.
            unpack_copyout(
                this.channel, this.job, this.work.args, this.work.copyout, whole=end.exit == 0
            )
        except InputError:
            this.leased.spared = True  # the user's mistake must not cost the chroot
            raise


def conclude(this: Run, end: JobEnd) -> int:
    """Note what lives on the node now; say how it went; mock's exit code.

    TransportError or CloudError where the node, not the package, was at fault.
    """
    this.note_chroots(end)
    if this.mirror.shadow is not None:
        this.leased.reserve(this.mirror.shadow.reserved_after(this.work, end))
    with suppress(MockCloudError):  # the results are here; the directory goes with the node
        this.channel.forget(this.job)
    if this.work.line.mode == "clean":
        _remove_local_results(this)
    if end.exit is None:
        if this.work.builds:  # else the engine said so
            this.site.console.info(f"Results and/or logs in: {this.mirror.resultdir.path}")
        raise TransportError(
            f"{this.leased.address}: the job vanished from the node without an exit status",
            hint="it was killed there, for memory perhaps; build again, or on a larger node",
        )
    if end.exit == EXIT_INFRASTRUCTURE:
        raise CloudError(
            f"{this.leased.address}: {end.message}",
            hint="nothing is wrong with the package: give the node more room, build again",
        )
    if end.exit == _PACKAGE_MANAGER_FAILED and not this.work.line.online:
        this.site.console.warning(
            "--offline: packages come from the node's own cache, and a new node has none: run this"
            " once without --offline, and again on the node that is kept then ([lease] idle_ttl);"
            " nothing is cached from repositories with gpgcheck=0"
        )
    return end.exit


def _remove_local_results(this: Run) -> None:
    """mock --clean removes the chroot's directory, the default resultdir in it included."""
    if this.work.paths.results_go_with_chroot:
        shutil.rmtree(this.work.paths.resultdir, ignore_errors=True)
