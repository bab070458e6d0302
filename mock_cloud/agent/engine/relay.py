# SPDX-License-Identifier: GPL-2.0-or-later
"""A program that the user talks to: on a terminal of its own, or on pipes."""

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
from dataclasses import field
from typing import Final

from mock_cloud.agent.engine import outside, processes
from mock_cloud.agent.engine.input import Event, InputKind, InputReader
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.terminal_log import STDERR, STDOUT

Write = Callable[[int, bytes], None]
"""Takes a stream's number (1 or 2) and what came on it."""

_CHUNK: Final = 1 << 16
_TICK_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Program:
    """What to start and where; `tick` is called now and then."""

    argv: Sequence[str]
    place: processes.Place
    tick: Callable[[], None] = field(default=lambda: None)


@dataclass(frozen=True, slots=True)
class Size:
    """Of the user's terminal."""

    rows: int
    columns: int


def terminal_of(words: Sequence[object]) -> tuple[Size, str]:
    """The size of the user's terminal, and its type: empty if it was not said."""
    rows, columns, term = (*words, "", "", "")[:3]
    size = Size(
        rows if isinstance(rows, int) else 24,
        columns if isinstance(columns, int) else 80,
    )
    return size, term if isinstance(term, str) else ""


# with a terminal


def on_terminal(
    program: Program, root: str, owner: int, size: Size, directory: str, write: Write
) -> int:
    """Run `program` on a pseudo-terminal of the devpts in `root`; its exit status.

    The terminal belongs to the user `owner`. Input comes from the job's `directory`. What the
    program left running is ended.
    """
    leader, follower = _open_terminal(root)
    _set_size(leader, size.rows, size.columns)
    with program.place.birth(""):
        child = os.fork()
        if child == 0:
            _become(program, follower, owner)
    os.close(follower)
    reader = InputReader(directory)
    try:
        code = _relay(leader, child, reader, write, program.tick)
    finally:
        reader.close()
        processes.kill_others()
        os.close(leader)
    return processes.exit_status(code, program.argv, program.place)


def _open_terminal(root: str) -> tuple[int, int]:
    """Both sides, leader first, of a pseudo-terminal of the devpts in `root`."""
    with outside.open_chroot_directory(root or "/", "dev/pts") as terminals:
        flags = os.O_RDWR | os.O_NOCTTY | os.O_NOFOLLOW | os.O_CLOEXEC
        leader = os.open("ptmx", flags, dir_fd=terminals)
        tiocsptlck, tiocgptn = 0x40045431, 0x80045430  # asm-generic/ioctls.h
        fcntl.ioctl(leader, tiocsptlck, struct.pack("i", 0))
        number = struct.unpack("I", fcntl.ioctl(leader, tiocgptn, struct.pack("I", 0)))[0]
        return leader, os.open(str(number), flags, dir_fd=terminals)


def _become(program: Program, follower: int, owner: int) -> None:
    argv = program.argv
    try:
        if owner:
            os.fchown(follower, owner, -1)
        for descriptor in (0, 1, 2):
            os.dup2(follower, descriptor)
        program.place.enter()
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        os.execve(argv[0], list(argv), dict(program.place.environment))  # noqa: S606
    except OSError as error:
        os.write(2, f"{argv[0]}: {error.strerror}\r\n".encode())
    finally:
        os._exit(127)


def _relay(
    leader: int, child: int, reader: InputReader, write: Write, tick: Callable[[], None]
) -> int:
    """Pass bytes both ways until the program ends; minus the signal if one ended it."""
    while True:
        ready, _, _ = select.select([leader, reader.descriptor], [], [], 0.5)
        tick()
        if reader.descriptor in ready:
            for event in reader.read():
                _apply(event, leader)
        open_still = True
        if leader in ready:
            open_still = _pass_output(leader, write)
        pid, status = os.waitpid(child, os.WNOHANG if open_still else 0)
        if pid == child:
            while _pending(leader) and _pass_output(leader, write):
                pass
            return os.waitstatus_to_exitcode(status)


def _apply(event: Event, leader: int) -> None:
    if event.kind is InputKind.DATA:
        view = memoryview(event.data)
        while view:
            view = view[os.write(leader, view) :]
    elif event.kind is InputKind.RESIZE:
        _set_size(leader, *event.size())
    else:
        os.write(leader, b"\x04")  # what a terminal makes an end of input of


def _pass_output(leader: int, write: Write) -> bool:
    """False at the end: the leader gives EIO once nobody has the other side open."""
    try:
        data = os.read(leader, _CHUNK)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return False
    write(STDOUT, data)
    return bool(data)


def _pending(leader: int) -> bool:
    return bool(select.select([leader], [], [], 0)[0])


def _set_size(leader: int, rows: int, columns: int) -> None:
    fcntl.ioctl(leader, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


# without one


@dataclass(slots=True)
class _Feed:
    """Input on its way to the program: what it did not take yet, and whether more may come."""

    waiting: bytes = b""
    ended: bool = False


def on_pipes(program: Program, directory: str, write: Write) -> int:
    """Run `program` with its streams kept apart; its exit status.

    Input comes from the job's `directory`; without one there is none. What the program left
    running is ended. NotExecutable names a program that cannot be executed.
    """
    with program.place.birth(program.argv[0]):
        child = subprocess.Popen(
            list(program.argv),
            env=dict(program.place.environment),
            stdin=subprocess.PIPE if directory else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=program.place.enter,  # noqa: PLW1509 (the engine has one thread)
            start_new_session=True,
            bufsize=0,
        )
    reader = InputReader(directory) if directory else None
    try:
        _relay_pipes(child, reader, write, program.tick)
        code = child.wait()
    finally:
        if reader is not None:
            reader.close()
        processes.kill_others()
        child.wait()
        for stream in (child.stdin, child.stdout, child.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
    return processes.exit_status(code, program.argv, program.place)


def _relay_pipes(
    child: subprocess.Popen[bytes],
    reader: InputReader | None,
    write: Write,
    tick: Callable[[], None],
) -> None:
    assert child.stdout and child.stderr  # noqa: S101 (for mypy)
    streams = {child.stdout.fileno(): STDOUT, child.stderr.fileno(): STDERR}
    stdin = child.stdin.fileno() if child.stdin else -1
    if child.stdin:
        os.set_blocking(stdin, False)
    feed = _Feed(ended=reader is None)
    while streams:
        takes_input = reader is not None and not feed.waiting and not feed.ended
        wanted = [*streams] + ([reader.descriptor] if reader and takes_input else [])
        ready, writable, _ = select.select(wanted, [stdin] if feed.waiting else [], [], _TICK_S)
        tick()
        if reader is not None and reader.descriptor in ready:
            for event in reader.read():
                feed.waiting += event.data if event.kind is InputKind.DATA else b""
                feed.ended = feed.ended or event.kind is InputKind.EOF
        if writable:
            feed.waiting = _offer(stdin, feed)
        if feed.ended and not feed.waiting and child.stdin and not child.stdin.closed:
            child.stdin.close()
        for descriptor in [item for item in ready if item in streams]:
            data = os.read(descriptor, _CHUNK)
            if data:
                write(streams[descriptor], data)
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
