# SPDX-License-Identifier: GPL-2.0-or-later
"""One job on a trusted node, from its inputs to its end."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

from mock_cloud.cloud.jobs import JobPhase, JobRecord
from mock_cloud.cloud.journal import Journal
from mock_cloud.cloud.leased import LeasedNode
from mock_cloud.errors import (
    ConnectionLost,
    ForwardingRefused,
    JournalError,
    MockCloudError,
    NodeGone,
    RemoteCommandError,
    TransportError,
)
from mock_cloud.exit_status import Stopped, interruptible
from mock_cloud.remote.channel import AgentEnded
from mock_cloud.remote.trusted import TrustedChannel
from mock_cloud.remote.unverified import UnverifiedNode
from mock_cloud.settings import Remote
from mock_cloud.steps.attest.hardening import Care, HostKeys, is_owned, timer
from mock_cloud.steps.attest.verdicts import trust_again
from mock_cloud.steps.check.request import MockOrder, Work
from mock_cloud.steps.job.job_list import ended, evidence_path, start_keeper
from mock_cloud.steps.job.keyboard import passed_on
from mock_cloud.steps.lease.node import Site, connect_leased
from mock_cloud.steps.results.mirror import Destination, Mirror
from mock_cloud.steps.send.repo_tunnel import Tunnel, open_tunnel
from mock_cloud.wire.decode import to_json
from mock_cloud.wire.replies import JobEnd
from mock_cloud.wire.terminal_log import STDERR, STDOUT

_PAST_EXPIRY_S: Final = 300.0
"""The node's own timer ends a job at its lease's expiry; after that nobody waits for it."""
_DRAIN_S: Final = 20.0
_SHELL_BEGINS: Final = b"Start: shell\n"
"""The engine's line just before the shell has the terminal."""
_DRAIN_ALL_S: Final = 600.0

_FIRST_TRY_S: Final = 3.0
_LONGEST_TRY_S: Final = 30.0
_STEADY_S: Final = 60.0
_UNSTEADY_MAX: Final = 10
"""Connections in a row that lasted for less than `_STEADY_S`: with more of them nothing gets on."""

_T = TypeVar("_T")
OnResults = Callable[[Path, tuple[Path, ...]], None]
"""Told the directory of results and the files that arrived in it, once they are in place."""


@dataclass(slots=True)
class Run:
    """One job on one trusted node: everything its steps share.

    `row` is what the journal has of it, if it `is_kept` there: another command can take it up then.
    `work` is None in one that did. `node` and `line` are the way there, None until there is one;
    `lasting` makes a new one when it is lost. `close` is idempotent.
    """

    row: JobRecord
    remote: Remote
    site: Site
    leased: LeasedNode
    care: Care | None
    host_keys: HostKeys
    mirror: Mirror
    on_results: OnResults
    work: Work | None = None
    node: UnverifiedNode | None = None
    line: TrustedChannel | None = None
    tunnel: Tunnel | None = None
    is_kept: bool = False
    reached_at: float = 0.0
    unsteady: int = 0

    @property
    def job(self) -> str:
        return self.row.id

    @property
    def destination(self) -> Destination:
        return Destination(Path(self.row.resultdir), self.row.packages, fresh=self.row.fresh)

    @property
    def channel(self) -> TrustedChannel:
        """The connection that there is. ConnectionLost."""
        if self.line is None:
            raise ConnectionLost(f"{self.leased.address}: there is no connection")
        return self.line

    def note(self, row: JobRecord) -> None:
        """Write down what is known of the job now. What hinders that does not hinder the job."""
        self.row = row
        if self.is_kept:
            try:
                self.leased.note_job(row)
            except JournalError as error:
                self.site.console.warning(error.message)

    def close(self) -> None:
        """End the connection. What runs on the node goes on."""
        for end in (self.line, self.node):
            if end is not None:
                end.close()

    def lasting(self, act: Callable[[TrustedChannel], _T]) -> _T:
        """What `act` returns; after a lost connection it is called with the next one.

        Another connection to the same node is tried for as long as that may live. Raises what lost
        the connection where the node is known to be gone, and all else that `act` does.
        """
        while True:
            try:
                return act(self.channel)
            except (ConnectionLost, AgentEnded) as error:
                self._reach_again(error)

    def _reach_again(self, error: TransportError) -> None:
        """Connect anew, or raise `error`. HostKeyMismatch, NodeGone."""
        began, console = time.monotonic(), self.site.console
        self.unsteady = 0 if began - self.reached_at > _STEADY_S else self.unsteady + 1
        if self._is_deaf or self.unsteady > _UNSTEADY_MAX:
            raise error
        if not self.leased.is_known_gone:
            console.done()
            at = time.strftime("%H:%M", time.localtime(self._waits_until()))
            console.warning(f"{error.message}; it is tried again until {at}")
        self.close()
        self.reach(error)
        took_s = self.reached_at - began
        console.info(f"remote {self.remote.name}: reached again after {took_s:.0f} s")

    def reach(self, error: TransportError | None = None) -> None:
        """Connect to the node that was attested, for as long as it may live.

        Raises `error`, or else TransportError, where that is over. HostKeyMismatch, NodeGone.
        """
        until_unix, try_s = self._waits_until(), _FIRST_TRY_S
        address = self.leased.address
        while not self._connect(try_s):
            left_s = until_unix - time.time()
            if left_s <= 0 or self.leased.is_known_gone:
                raise error or NodeGone(f"{address}: the node has ended, and its job with it")
            self.site.console.phase(f"remote {self.remote.name}: {address} cannot be reached")
            time.sleep(min(left_s, try_s * random.uniform(0.5, 1.0)))  # noqa: S311  no secret
            try_s = min(2 * try_s, _LONGEST_TRY_S)
        self.reached_at = time.monotonic()

    @property
    def _is_deaf(self) -> bool:
        """Whether what is sent to the job could be lost with a line, and nobody would know."""
        return self.row.mode == "shell" and (self.work is None or self.work.pty is None)

    def _waits_until(self) -> float:
        """When the node will have ended, if nobody reaches it: its own timer counts from now on."""
        if self.care is None:
            return self.leased.expires_unix
        return min(self.leased.expires_unix, time.time() + self.care.grace_s)

    def _connect(self, within_s: float) -> bool:
        """Whether the node is reached, and is the one that was attested."""
        try:
            node = connect_leased(self.leased, self.remote, within_s)
        except TransportError as error:
            if not error.retryable:
                raise
            return False
        try:
            channel = trust_again(node, self.leased, self.site, alone=self._takes_over())
            if channel is None:
                raise NodeGone(f"{self.leased.address}: the node has been started anew")
            if self.tunnel is not None:
                self.tunnel.renew(channel)
        except NodeGone:
            node.close()
            raise
        except (TransportError, RemoteCommandError):
            node.close()
            return False
        except BaseException:
            node.close()
            raise
        self.node, self.line = node, channel
        self.host_keys.go_on_with(channel)
        return True

    def _takes_over(self) -> bool:
        """Whether what is left of the former connection is ended: its sshd may hold our port."""
        return self.tunnel is not None and self.tunnel.port > 0 and self.leased.is_alone

    def leave(self) -> None:
        """Leave the node to the commands beside this one. The last one tidies up.

        Jobs of commands that died are ended; and if code that nobody signed was root on the node,
        no key that it may have seen stays. Idempotent.
        """
        left = self.leased.leave(foreign=self.row.foreign)
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

    def rest(self) -> None:
        """The job is over: the node waits for nobody longer than an idle one does."""
        if self.care is not None:
            self.channel.care(timer(self.leased, self.care, idle=True))

    def note_chroots(self, end: JobEnd) -> None:
        """Journal which chroots live on the node now."""
        root = self.row.chroot
        others = tuple(name for name in self.leased.chroots if name != root)
        stays = bool(end.chroots) and (self.work or not self.leased.lives_elsewhere(root))
        self.leased.record_chroots((*others, root) if stays else others)


def send_inputs(this: Run, work: Work) -> None:
    """Send the inputs that the node lacks."""
    console = this.site.console
    total = sum(blob.size_bytes for blob in work.blobs)
    sent = 0

    def progress(count: int) -> None:
        nonlocal sent
        sent += count
        done = min(sent, total)  # what was on its way when a line was lost is sent again
        console.progress(f"remote {this.remote.name}: sending {done >> 20} of {total >> 20} MiB")

    this.lasting(lambda channel: channel.send_blobs(work.blobs, progress))
    console.done()


@contextmanager
def tunnelled(this: Run, work: Work) -> Iterator[Tunnel]:
    """The way to the repositories, if the job needs any. Spares a node whose sshd forwards none."""
    repositories = work.repositories
    try:
        if work.needs_repositories:
            this.tunnel = this.lasting(
                lambda channel: open_tunnel(channel, repositories, this.remote, this.site.console)
            )
        else:
            this.tunnel = Tunnel(repositories)
        try:
            yield this.tunnel
        finally:
            this.tunnel.close()
            this.tunnel = None
    except ForwardingRefused:
        this.leased.spared = this.leased.builds > 1
        raise


def start_job(
    this: Run, work: Work, layers: dict[str, str], tunnel: Tunnel, *, shared: bool
) -> None:
    """Note the job in the journal, then start it.

    `layers` is what the verdict lets it reuse. `shared`: other commands may work beside it.
    """
    order = work.request(layers, this.destination.path, tunnel)
    order = replace(order, owned=is_owned(this.remote.provider), beside=this.leased.beside)
    request = to_json(order)
    if this.mirror.shadow is not None:
        this.mirror.shadow.begin()
    if work.runs_foreign_code:
        this.leased.note_foreign(work.root)
    this.row = replace(this.row, state=JobPhase.RUNNING, tunnelled=tunnel.port > 0)
    if this.is_kept:
        this.leased.begin_job(this.row, this.remote.lease.grace_s)
    this.lasting(lambda channel: channel.start_job(this.job, request))
    if shared:
        try:
            this.leased.let_others_in(this.job)
        except JournalError as error:  # nobody is let in, then
            this.site.console.warning(error.message)


def follow_run(this: Run) -> JobEnd:
    """Follow the job to its end, from where its logs are here."""
    with _keyboard(this):
        left_s = this.leased.expires_unix - time.time() + _PAST_EXPIRY_S
        return this.lasting(
            lambda channel: channel.follow_job(
                this.job,
                this.mirror.offsets(),
                this.mirror.take,
                within_s=max(left_s, _PAST_EXPIRY_S),
            )
        )


@contextmanager
def cancelling(this: Run) -> Iterator[None]:
    """Whoever stops the block stops the job; but a terminal that is closed leaves it to itself."""
    try:
        yield
    except Stopped as stopped:
        if stopped.number == signal.SIGHUP and this.is_kept and this.site.console.is_terminal:
            detach(this)
        else:
            stop_job(this, keep_chroot=stopped.number != signal.SIGINT)
        raise


@contextmanager
def noted_end(this: Run) -> Iterator[None]:
    """What ends the block without results ends the job's row, unless the job was left."""
    try:
        yield
    except (MockCloudError, Stopped) as error:
        if this.is_kept and not this.leased.is_forsaken:
            row = ended(this.row, error.exit_code, str(error))
            with suppress(MockCloudError, OSError):
                evidence_path(row.id).unlink(missing_ok=True)
                Journal(this.site.archive.state_dir).note_job(row)
        raise


def detach(this: Run, *words: str) -> None:
    """Leave the job to a command in the background, with `words` for it."""
    this.close()
    this.leased.spared = True
    this.leased.forsake()
    start_keeper(this.row, *words, after=os.getpid())


@contextmanager
def _keyboard(this: Run) -> Iterator[None]:
    work = this.work
    if work is None or work.line.mode != "shell":
        yield
        return

    def send(data: bytes, eof: bool) -> None:
        with suppress(ConnectionLost, AgentEnded):  # what is typed into a dead line is lost
            this.channel.job_input(this.job, data, eof=eof)

    def resize(rows: int, columns: int) -> None:
        this.channel.resize(this.job, rows, columns)

    console = this.site.console

    # With -q our engine writes no lines; all that mock writes has been through a terminal.
    begun = work.line.verbose == 0 or isinstance(work.order, MockOrder)

    def follow(stream: int, text: bytes) -> None:
        nonlocal begun
        begun |= stream == STDERR and _SHELL_BEGINS in text
        is_shells = begun and stream == STDOUT
        switch(is_shells)
        console.set_raw(is_shells)

    with passed_on(send, resize, is_terminal=work.pty is not None) as switch:
        if work.pty is not None:
            # Before its shell and after it the engine writes lines, and Ctrl-C is for us.
            this.mirror.on_output = follow
        try:
            yield
        finally:
            this.mirror.on_output = None
            console.set_raw(False)


def stop_job(this: Run, *, keep_chroot: bool = False) -> None:
    """Stop the job and take the rest of its logs. A warm node that confirms it is clean stays.

    Another Ctrl-C meanwhile leaves that to a command in the background, if it can be left.
    """
    console = this.site.console
    again = "; Ctrl-C again leaves that to the background" if this.is_kept else ""
    console.warning(f"stopping the job on the node{again if console.is_terminal else ''}")

    def keep(name: str, offset: int, data: bytes) -> None:
        if name != "terminal":  # who stopped it has read enough
            this.mirror.take(name, offset, data)

    try:
        with interruptible(this.is_kept):
            clean = this.channel.cancel_job(this.job, keep_chroot=keep_chroot)
            offsets = this.mirror.offsets()
            end = this.channel.follow_job(
                this.job, offsets, keep, within_s=_DRAIN_ALL_S, idle_s=_DRAIN_S
            )
        this.mirror.say_last(arrived=False)
        if clean and end.exit is not None:
            this.leased.record_layers(end.layers)
            this.note_chroots(end)
            this.leased.reserve("")
            this.channel.forget(this.job)
            this.leave()
            this.leased.spared = this.leased.builds > 1
    except Stopped:
        detach(this, "--cancel")
        console.warning(f"job {this.job} is stopped in the background: mock-cloud jobs lists it")
    except MockCloudError as error:
        console.warning(f"the logs may be incomplete: {error.message}")
