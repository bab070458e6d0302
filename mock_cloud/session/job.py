# SPDX-License-Identifier: GPL-2.0-or-later
"""One job on a trusted node, from its inputs to its end."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from mock_cloud.cloud.leased import LeasedNode
from mock_cloud.errors import (
    ForwardingRefused,
    LocalDiskFull,
    MockCloudError,
    RemoteCommandError,
)
from mock_cloud.remote.trusted import TrustedChannel
from mock_cloud.session.interrupts import Stopped
from mock_cloud.session.keyboard import passed_on
from mock_cloud.session.lease_care import HostKeys, is_owned
from mock_cloud.session.nodes import Site
from mock_cloud.session.repo_tunnel import Tunnel, open_tunnel
from mock_cloud.session.request import MockOrder, Work
from mock_cloud.session.results import Destination, Mirror
from mock_cloud.settings import Remote
from mock_cloud.wire.decode import to_json
from mock_cloud.wire.replies import JobEnd
from mock_cloud.wire.terminal_log import STDERR, STDOUT

_PAST_EXPIRY_S: Final = 300.0
"""The node's own timer ends a job at its lease's expiry; after that nobody waits for it."""
_DRAIN_S: Final = 20.0
_SHELL_BEGINS: Final = b"Start: shell\n"
"""The engine's line just before the shell has the terminal."""
_DRAIN_ALL_S: Final = 600.0

OnResults = Callable[[Path, tuple[Path, ...]], None]
"""Told the directory of results and the files that arrived in it, once they are in place."""


@dataclass(frozen=True, slots=True)
class Run:
    """One job on one trusted node: everything its steps share."""

    work: Work
    destination: Destination
    remote: Remote
    site: Site
    leased: LeasedNode
    channel: TrustedChannel
    host_keys: HostKeys
    mirror: Mirror
    job: str
    on_results: OnResults

    def leave(self) -> None:
        """Leave the node to the commands beside this one. The last one tidies up.

        Jobs of commands that died are ended; and if code that nobody signed was root on the node,
        no key that it may have seen stays. Idempotent.
        """
        left = self.leased.leave(foreign=self.work.runs_foreign_code)
        if left is None:
            return
        if not all(self._end_job(guest.job) for guest in left.guests if guest.job):
            self.leased.destroy()
        elif left.foreign:
            self.host_keys.renew()

    def _end_job(self, job: str) -> bool:
        """End the job of a command that died, note what it left; whether nothing of it runs."""
        if not self.channel.cancel_job(job):
            return False
        with suppress(RemoteCommandError):  # its directory may be gone
            end = self.channel.follow_job(job, {}, lambda *_: None, within_s=_DRAIN_S)
            self.leased.add_layers(end.layers)
        return True

    def note_chroots(self, end: JobEnd) -> None:
        """Journal which chroots live on the node now."""
        root = self.work.root
        others = tuple(name for name in self.leased.chroots if name != root)
        self.leased.record_chroots((*others, root) if end.chroots else others)


def send_inputs(this: Run) -> None:
    """Send the inputs that the node lacks."""
    console = this.site.console
    total = sum(blob.size_bytes for blob in this.work.blobs)
    sent = 0

    def progress(count: int) -> None:
        nonlocal sent
        sent += count
        console.progress(f"remote {this.remote.name}: sending {sent >> 20} of {total >> 20} MiB")

    this.channel.send_blobs(this.work.blobs, progress)
    console.done()


def tunnel_for(this: Run) -> closing[Tunnel]:
    """The way to the repositories, if the job needs any. Spares a node whose sshd forwards none."""
    repositories = this.work.repositories
    if not this.work.needs_repositories:
        return closing(Tunnel(repositories))
    try:
        return closing(open_tunnel(this.channel, repositories, this.remote, this.site.console))
    except ForwardingRefused:
        this.leased.spared = this.leased.builds > 1
        raise


def perform_job(this: Run, layers: dict[str, str], tunnel: Tunnel, *, shared: bool) -> JobEnd:
    """Start the job and follow it to its end; when stopped, stop it. Raises Stopped.

    `layers` is what the verdict lets it reuse. `shared`: other commands may work beside it.
    """
    order = this.work.request(layers, this.destination.path, tunnel)
    order = replace(order, owned=is_owned(this.remote.provider), beside=this.leased.beside)
    request = to_json(order)
    if this.mirror.shadow is not None:
        this.mirror.shadow.directory.begin()
    try:
        if this.work.runs_foreign_code:
            this.leased.note_foreign(this.work.root)
        this.channel.start_job(this.job, request)
        if shared:
            this.leased.let_others_in(this.job)
        with _keyboard(this):
            left_s = this.leased.expires_unix - time.time() + _PAST_EXPIRY_S
            end = this.channel.follow_job(
                this.job, {}, this.mirror.take, within_s=max(left_s, _PAST_EXPIRY_S)
            )
    except Stopped as stopped:
        _cancel(this, keep_logs=True, keep_chroot=stopped.number != signal.SIGINT)
        raise
    except LocalDiskFull:
        _cancel(this, keep_logs=False)
        raise
    this.leased.record_layers(end.layers)  # all that may be reused; none if the job vanished
    return end


@contextmanager
def _keyboard(this: Run) -> Iterator[None]:
    if this.work.line.mode != "shell":
        yield
        return

    def send(data: bytes, eof: bool) -> None:
        this.channel.job_input(this.job, data, eof=eof)

    def resize(rows: int, columns: int) -> None:
        this.channel.resize(this.job, rows, columns)

    console = this.site.console

    # With -q our engine writes no lines; all that mock writes has been through a terminal.
    begun = this.work.line.verbose == 0 or isinstance(this.work.order, MockOrder)

    def follow(stream: int, text: bytes) -> None:
        nonlocal begun
        begun |= stream == STDERR and _SHELL_BEGINS in text
        is_shells = begun and stream == STDOUT
        switch(is_shells)
        console.set_raw(is_shells)

    with passed_on(send, resize, is_terminal=this.work.pty is not None) as switch:
        if this.work.pty is not None:
            # Before its shell and after it the engine writes lines, and Ctrl-C is for us.
            this.mirror.on_output = follow
        try:
            yield
        finally:
            this.mirror.on_output = None
            console.set_raw(False)


def _cancel(this: Run, *, keep_logs: bool, keep_chroot: bool = False) -> None:
    """Stop the job and take the rest of its logs. A warm node that confirms it is clean stays."""
    console = this.site.console
    console.warning("stopping the job on the node")

    def keep(name: str, offset: int, data: bytes) -> None:
        if keep_logs and name != "terminal":  # who stopped it has read enough
            this.mirror.take(name, offset, data)

    try:
        clean = this.channel.cancel_job(this.job, keep_chroot=keep_chroot)
        offsets = this.mirror.offsets()
        end = this.channel.follow_job(
            this.job, offsets, keep, within_s=_DRAIN_ALL_S, idle_s=_DRAIN_S
        )
        if clean and end.exit is not None:
            this.leased.record_layers(end.layers)
            this.note_chroots(end)
            this.leased.reserve("")
            this.channel.forget(this.job)
            this.leave()
            this.leased.spared = this.leased.builds > 1
    except MockCloudError as error:
        console.warning(f"the logs may be incomplete: {error.message}")
