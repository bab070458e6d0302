# SPDX-License-Identifier: GPL-2.0-or-later
"""Step 5: one job on a trusted node, from its start to its end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Final

from mock_cloud.cloud.jobs import JobPhase
from mock_cloud.cloud.journal import Journal
from mock_cloud.errors import EXIT_INTERRUPTED, ConnectionLost, JournalError, MockCloudError
from mock_cloud.exit_status import Stopped, interruptible
from mock_cloud.invocation.model import PART_OF
from mock_cloud.remote.channel import AgentEnded
from mock_cloud.remote.trusted import TrustedChannel
from mock_cloud.steps.attest.hardening import is_owned
from mock_cloud.steps.check.request import MockOrder
from mock_cloud.steps.context import Build
from mock_cloud.steps.job.job_list import ended, evidence_path, note_row, start_keeper
from mock_cloud.steps.job.keyboard import passed_on
from mock_cloud.steps.release.leaving import leave_node, note_chroots
from mock_cloud.steps.results.finished import bring_finished, is_published_early
from mock_cloud.wire.decode import to_json
from mock_cloud.wire.replies import JobEnd
from mock_cloud.wire.terminal_log import STDERR, STDOUT

_PAST_EXPIRY_S: Final = 300.0
"""The node's own timer ends a job at its lease's expiry; after that nobody waits for it."""
_DRAIN_S: Final = 20.0
_ANSWERS_WITHIN_S: Final = 10.0
"""Who presses Ctrl-C waits no longer for a node to say anything."""
_SHELL_BEGINS: Final = b"Start: shell\n"
"""The engine's line just before the shell has the terminal."""
_DRAIN_ALL_S: Final = 600.0


def start_job(build: Build) -> None:
    """Note the job in the journal, then start it, with the layers that it may reuse."""
    work, leased, tunnel = build.planned, build.leased, build.tunnel
    assert tunnel is not None  # opened before  # noqa: S101
    told = Path(os.environ.get(PART_OF, build.resultdir.path))
    order = work.request(dict(build.layers), told, tunnel)
    order = replace(
        order,
        owned=is_owned(build.remote.provider),
        beside=leased.beside,
        output_timeout_s=ceil(build.remote.build.output_timeout_s),
    )
    request = to_json(order)
    if build.shadow is not None:
        build.shadow.begin()
    if build.builddir is not None and not leased.beside:
        build.builddir.begin()
    build.row = replace(build.row, state=JobPhase.RUNNING, tunnelled=tunnel.port > 0)
    with leased.noting_together():
        if work.runs_foreign_code:
            leased.note_foreign(work.root)
        if build.is_kept:
            leased.begin_job(build.row, build.grace_s)
    build.connection.lasting(lambda channel: channel.start_job(build.job, request))
    if build.lets_others_in:
        try:
            leased.let_others_in(build.job)
        except JournalError as error:  # nobody is let in, then
            build.console.warning(error.message)


def follow_to_end(build: Build) -> JobEnd:
    """Follow the job to its end, from where its logs are here."""
    mirror = build.mirror
    if is_published_early(build):
        mirror.on_next = lambda: bring_finished(build)
    with _keyboard(build):
        left_s = build.leased.expires_unix - time.time() + _PAST_EXPIRY_S
        return build.connection.lasting(
            lambda channel: channel.follow_job(
                build.job, mirror.offsets(), mirror.take, within_s=max(left_s, _PAST_EXPIRY_S)
            )
        )


@contextmanager
def cancelling(build: Build) -> Iterator[None]:
    """What stops the block stops the job; but a terminal that is closed leaves it to itself."""
    try:
        yield
    except Stopped as stopped:
        if stopped.number == signal.SIGHUP and build.is_kept and build.console.is_terminal:
            _detach(build)
        else:
            stop_job(build, keep_chroot=stopped.number != signal.SIGINT)
        raise


@contextmanager
def noted_end(build: Build) -> Iterator[None]:
    """What ends the block without results ends the job's row, unless the job was left."""
    try:
        yield
    except (MockCloudError, Stopped) as error:
        if build.is_kept and not build.leased.is_forsaken:
            row = ended(build.row, error.exit_code, str(error))
            with suppress(MockCloudError, OSError):
                evidence_path(row.id).unlink(missing_ok=True)
                Journal(build.archive.state_dir).note_job(row)
        raise


def _detach(build: Build, *words: str) -> None:
    """Leave the job to a command in the background, with `words` for it."""
    build.connection.close()
    build.leased.spared = True
    build.leased.forsake()
    start_keeper(build.row, *words, after=os.getpid())


@contextmanager
def _keyboard(build: Build) -> Iterator[None]:
    work, console, connection = build.work, build.console, build.connection
    if work is None or work.line.mode != "shell":
        yield
        return

    def send(data: bytes, eof: bool) -> None:
        with suppress(ConnectionLost, AgentEnded):  # what is typed into a dead line is lost
            connection.channel.job_input(build.job, data, eof=eof)

    def resize(rows: int, columns: int) -> None:
        connection.channel.resize(build.job, rows, columns)

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
            build.mirror.on_output = follow
        try:
            yield
        finally:
            build.mirror.on_output = None
            console.set_raw(False)


def stop_job(build: Build, *, keep_chroot: bool = False, patiently: bool = False) -> None:
    """Stop the job and take the rest of its logs. A warm node that confirms it is clean stays.

    Another Ctrl-C meanwhile leaves that to a command in the background, if it can be left; so does
    a node that does not answer, unless this waits `patiently` for another connection to it.
    """
    console, leased, mirror = build.console, build.leased, build.mirror
    again = "; Ctrl-C again leaves that to the background" if build.is_kept else ""

    def keep(name: str, offset: int, data: bytes) -> None:
        if name != "terminal":  # who stopped it has read enough
            mirror.take(name, offset, data)

    def stop(channel: TrustedChannel) -> tuple[bool, JobEnd]:
        channel.prove_alive(_ANSWERS_WITHIN_S)
        clean = channel.cancel_job(build.job, keep_chroot=keep_chroot)
        return clean, channel.follow_job(
            build.job, mirror.offsets(), keep, within_s=_DRAIN_ALL_S, idle_s=_DRAIN_S
        )

    try:
        with interruptible(build.is_kept):
            console.warning(f"stopping the job on the node{again if console.is_terminal else ''}")
            connection = build.connection
            clean, end = connection.lasting(stop) if patiently else stop(connection.channel)
        mirror.say_last(arrived=False)
        if clean and end.exit is not None:
            leased.record_layers(end.layers)
            note_chroots(build, end)
            leased.reserve("")
            connection.channel.forget(build.job)
            leave_node(build)
            leased.spared = leased.builds > 1
    except Stopped:
        _leave_to_background(build)
    except MockCloudError as error:
        if isinstance(error, (ConnectionLost, AgentEnded)) and build.is_kept and not patiently:
            console.warning(error.message)
            _leave_to_background(build)
            return
        console.warning(f"the logs may be incomplete: {error.message}")


def _leave_to_background(build: Build) -> None:
    _detach(build, "--cancel")
    build.console.warning(f"job {build.job} is stopped in the background: mock-cloud jobs lists it")


def end_job(build: Build) -> int:
    """Stop a job that was taken up. Its node stays, if nothing of it is left there."""
    stop_job(build, patiently=True)
    if build.leased.is_forsaken:  # another command does
        return EXIT_INTERRUPTED
    note_row(build, ended(build.row, EXIT_INTERRUPTED, "cancelled"))
    if not build.leased.spared:
        build.leased.destroy()
    return EXIT_INTERRUPTED
