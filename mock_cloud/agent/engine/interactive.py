# SPDX-License-Identifier: GPL-2.0-or-later
"""``mock --shell`` and ``mock --chroot``: the user's own commands in the chroot."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import struct
import subprocess
import termios
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from mock_cloud.agent.engine import processes
from mock_cloud.agent.engine.buildroot import Buildroot
from mock_cloud.agent.engine.context import Job
from mock_cloud.agent.job.input import Event, InputReader, Kind
from mock_cloud.agent.job.terminal import STDERR, STDOUT

_CHUNK: Final = 1 << 16


def chroot(job: Job, buildroot: Buildroot) -> int:
    """Run the request's command without input; its output goes to root.log and stdout.

    One word is a shell command, several are an argv, as with mock. The command's status.
    """
    words = job.request.args
    job.logs.info(f"Running in chroot: {words}")
    argv = ["/bin/sh", "-c", words[0]] if len(words) == 1 else list(words)
    place = _place(job, buildroot, default_cwd="/")
    with job.logs.state(f"chroot {words}"):
        sink, finish = job.logs.root_sink()

        def take(data: bytes) -> None:
            job.logs.terminal.write(STDOUT, data)
            sink(data)

        job.logs.show_output = False  # it is on the terminal already
        code = _started(job, lambda: processes.run(argv, place, take))
        finish()
    return code


def shell(job: Job, buildroot: Buildroot) -> int:
    """A login shell, or the request's words as a shell command, with the user's input."""
    words = job.request.args
    argv = ["/bin/sh", "-c", " ".join(words)] if words else ["/bin/sh", "-i", "-l"]
    place = _place(job, buildroot, default_cwd=job.config.chroothome)
    with job.logs.state("shell"):
        if job.request.pty:
            rows, columns, term = _terminal_of(job.request.pty)
            environment = {**place.environment, "TERM": term} if term else place.environment
            place = replace(place, environment=environment)
            return _started(job, lambda: _on_terminal(job, buildroot, argv, place, rows, columns))
        return _started(job, lambda: _on_pipes(job, argv, place))


def _started(job: Job, start: Callable[[], int]) -> int:
    try:
        return start()
    except (FileNotFoundError, PermissionError) as error:
        job.logs.error(f"{error.filename}: {error.strerror}")
        return 127 if isinstance(error, FileNotFoundError) else 126


def _place(job: Job, buildroot: Buildroot, *, default_cwd: str) -> processes.Place:
    cwd = job.request.cwd or default_cwd
    return buildroot.builder(cwd) if job.request.unpriv else buildroot.superuser(cwd)


def _terminal_of(words: Sequence[object]) -> tuple[int, int, str]:
    rows, columns, term = (*words, "", "", "")[:3]
    return (
        rows if isinstance(rows, int) else 24,
        columns if isinstance(columns, int) else 80,
        term if isinstance(term, str) else "",
    )


# with a terminal


def _on_terminal(
    job: Job, buildroot: Buildroot, argv: Sequence[str], place: processes.Place, rows: int,
    columns: int,
) -> int:  # fmt: skip
    leader, name = _open_terminal(buildroot.chroot.root)
    _set_size(leader, rows, columns)
    child = os.fork()
    if child == 0:
        _become_shell(name, leader, argv, place)
    reader = InputReader(job.directory)
    try:
        code = _relay(job, leader, child, reader)
    finally:
        reader.close()
        processes.kill_others()
        os.close(leader)
    return code if code >= 0 else 128 - code


def _open_terminal(root: str) -> tuple[int, str]:
    """A pseudo-terminal of the chroot's own devpts: (leader's descriptor, name on the node)."""
    leader = os.open(f"{root}/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    tiocsptlck, tiocgptn = 0x40045431, 0x80045430  # asm-generic/ioctls.h
    fcntl.ioctl(leader, tiocsptlck, struct.pack("i", 0))
    number = struct.unpack("I", fcntl.ioctl(leader, tiocgptn, struct.pack("I", 0)))[0]
    return leader, f"{root}/dev/pts/{number}"


def _become_shell(name: str, leader: int, argv: Sequence[str], place: processes.Place) -> None:
    try:
        os.setsid()
        follower = os.open(name, os.O_RDWR)
        fcntl.ioctl(follower, termios.TIOCSCTTY, 0)
        if place.uid:
            os.fchown(follower, place.uid, -1)
        for descriptor in (0, 1, 2):
            os.dup2(follower, descriptor)
        os.close(leader)
        place.enter()
        os.execve(argv[0], list(argv), dict(place.environment))  # noqa: S606
    except OSError as error:
        os.write(2, f"{argv[0]}: {error.strerror}\r\n".encode())
    finally:
        os._exit(127)


def _relay(job: Job, leader: int, child: int, reader: InputReader) -> int:
    """Pass bytes both ways until the shell ends; minus the signal if one ended it."""
    while True:
        ready, _, _ = select.select([leader, reader.descriptor], [], [], 0.5)
        if reader.descriptor in ready:
            for event in reader.read():
                _apply(event, leader)
        open_still = True
        if leader in ready:
            open_still = _pass_output(job, leader)
        pid, status = os.waitpid(child, os.WNOHANG if open_still else 0)
        if pid == child:
            while _pending(leader) and _pass_output(job, leader):
                pass
            return os.waitstatus_to_exitcode(status)


def _apply(event: Event, leader: int) -> None:
    if event.kind is Kind.DATA:
        view = memoryview(event.data)
        while view:
            view = view[os.write(leader, view) :]
    elif event.kind is Kind.RESIZE:
        _set_size(leader, *event.size())
    else:
        os.write(leader, b"\x04")  # what a terminal makes an end of input of


def _pass_output(job: Job, leader: int) -> bool:
    """False at the end: the leader gives EIO once nobody has the other side open."""
    try:
        data = os.read(leader, _CHUNK)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return False
    job.logs.terminal.write(STDOUT, data)
    return bool(data)


def _pending(leader: int) -> bool:
    return bool(select.select([leader], [], [], 0)[0])


def _set_size(leader: int, rows: int, columns: int) -> None:
    fcntl.ioctl(leader, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


# without one


@dataclass(slots=True)
class _Feed:
    """Input on its way to the command: what it did not take yet, and whether more may come."""

    waiting: bytes = b""
    ended: bool = False


def _on_pipes(job: Job, argv: Sequence[str], place: processes.Place) -> int:
    child = subprocess.Popen(
        list(argv),
        env=dict(place.environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=place.enter,  # noqa: PLW1509 (the engine has one thread)
        start_new_session=True,
        bufsize=0,
    )
    reader = InputReader(job.directory)
    try:
        _relay_pipes(job, child, reader)
        code = child.wait()
    finally:
        reader.close()
        processes.kill_others()
        child.wait()
        for stream in (child.stdin, child.stdout, child.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
    return code if code >= 0 else 128 - code


def _relay_pipes(job: Job, child: subprocess.Popen[bytes], reader: InputReader) -> None:
    assert child.stdin and child.stdout and child.stderr  # noqa: S101 (for mypy)
    streams = {child.stdout.fileno(): STDOUT, child.stderr.fileno(): STDERR}
    stdin = child.stdin.fileno()
    os.set_blocking(stdin, False)
    feed = _Feed()
    while streams:
        wanted = [*streams] + ([] if feed.waiting or feed.ended else [reader.descriptor])
        ready, writable, _ = select.select(wanted, [stdin] if feed.waiting else [], [], 0.2)
        if reader.descriptor in ready:
            for event in reader.read():
                feed.waiting += event.data if event.kind is Kind.DATA else b""
                feed.ended = feed.ended or event.kind is Kind.EOF
        if writable:
            feed.waiting = _offer(stdin, feed)
        if feed.ended and not feed.waiting and not child.stdin.closed:
            child.stdin.close()
        for descriptor in [item for item in ready if item in streams]:
            data = os.read(descriptor, _CHUNK)
            if data:
                job.logs.terminal.write(streams[descriptor], data)
            else:
                del streams[descriptor]
        if not ready and child.poll() is not None:
            return


def _offer(stdin: int, feed: _Feed) -> bytes:
    try:
        return feed.waiting[os.write(stdin, feed.waiting) :]
    except BrokenPipeError:
        feed.ended = True
        return b""
