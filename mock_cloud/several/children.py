# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds in processes of their own: whole lines of their output, their ends, and signals for them.

Each is forked from the command that was read already, and does what it would do alone. It is in no
terminal's foreground: Ctrl-C is the parent's to pass on, once. The kernel ends it with its parent,
and its job goes on, as that of any command that was killed (docs/decisions/0142).
"""

from __future__ import annotations

import importlib
import os
import selectors
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import field
from typing import Final, NoReturn

from mock_cloud.console import Console
from mock_cloud.exit_status import Stopped, end_well, interruptible
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.syscalls import die_with_parent
from mock_cloud.wire.terminal_text import sanitize

_LOOK_S: Final = 0.2
_READ_BYTES: Final = 1 << 16
_LINE_MAX: Final = 1 << 16
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_CRASHED: Final = 1

_EACH_LOADS: Final = (
    "mock_cloud.steps.attest.verdicts",
    "mock_cloud.steps.lease.node",
    "mock_cloud.steps.send.inputs",
    "mock_cloud.steps.job.run_job",
    "mock_cloud.steps.sign.record",
)
"""What every build loads once it has been checked."""

Act = Callable[[Console], int]
"""What a child does, with a console of its own; its exit code."""


@dataclass(slots=True)
class _Pipe:
    """One of a child's streams: what came of a line that has no end yet."""

    name: str
    is_output: bool
    pending: bytes = b""


@dataclass(slots=True)
class Children:
    """The running ones. `verbose` is theirs; what they print goes to `console`, line by line."""

    console: Console
    verbose: int
    _pids: dict[int, str] = field(default_factory=dict)
    _ended: list[tuple[str, int]] = field(default_factory=list)
    _selector: selectors.DefaultSelector = field(default_factory=selectors.DefaultSelector)
    _is_ready: bool = False

    def __len__(self) -> int:
        return len(self._pids)

    def start(self, name: str, act: Act) -> None:
        """Have `act` done by a new process. Its lines begin with `name`. OSError."""
        self._make_ready()
        sys.stdout.flush()
        ends = [os.pipe() for _ in range(2)]
        parent = os.getpid()
        with _held_back():
            pid = os.fork()
            if pid == 0:
                self._be_child(parent, [write for _, write in ends], act)
        self._pids[pid] = name
        for (read, write), is_output in zip(ends, (True, False), strict=True):
            os.close(write)
            os.set_blocking(read, False)
            self._selector.register(read, selectors.EVENT_READ, _Pipe(name, is_output))

    def _make_ready(self) -> None:
        """Load what each would: fifty builds at once then have it once, and none takes the time."""
        if not self._is_ready:
            self._is_ready = True
            for name in _EACH_LOADS:
                importlib.import_module(name)

    def wait(self) -> list[tuple[str, int]]:
        """Pass on lines until some have ended: name and exit code of each. At once without any."""
        while self._pids and not self._ended:
            self._pass_on(_LOOK_S)
            self._reap()
        ended, self._ended = self._ended, []
        self._drain({name for name, _ in ended})
        return ended

    def stop(self, stopped: Stopped) -> list[tuple[str, int]]:
        """Pass a signal on to all, and each further one, until they have ended. As `wait` has it.

        A further one is a child's further one: its second Ctrl-C leaves its job to the background.
        """
        while self._pids:
            for pid in self._pids:
                os.kill(pid, stopped.number)
            try:
                with interruptible():
                    while self._pids:
                        self._pass_on(_LOOK_S)
                        self._reap()
            except Stopped as again:
                stopped = again
        return self.wait()

    def close(self) -> None:
        """Kill those that are left: their jobs go on."""
        for pid in self._pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        self._pids.clear()
        for key in list(self._selector.get_map().values()):
            os.close(key.fd)
        self._selector.close()

    def _be_child(self, parent: int, ends: list[int], act: Act) -> NoReturn:
        code = _CRASHED
        try:
            os.setpgid(0, 0)
            die_with_parent()
            if os.getppid() != parent:
                os._exit(_CRASHED)
            null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            for number, descriptor in enumerate((null, *ends)):
                os.dup2(descriptor, number)
            console = Console(self.verbose)
            console.is_terminal = self.console.is_terminal

            def begin() -> int:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
                return act(console)

            code = end_well(console, begin)
        except Stopped as stopped:
            code = stopped.exit_code
        except BaseException as error:  # nothing of the parent's may go on here
            sys.excepthook(type(error), error, error.__traceback__)
        finally:
            with suppress(OSError):
                sys.stderr.flush()
            os._exit(code)

    def _reap(self) -> None:
        with _held_back():
            for pid, name in list(self._pids.items()):
                found, status = os.waitpid(pid, os.WNOHANG)
                if found:
                    del self._pids[pid]
                    self._ended.append((name, _exit_code(status)))

    def _drain(self, names: set[str]) -> None:
        """What is left in the pipes of those that have ended. Others may hold them open."""
        self._pass_on(0)
        for key in list(self._selector.get_map().values()):
            pipe: _Pipe = key.data
            if pipe.name in names:
                while self._read(key.fd, pipe):
                    pass
                self._end(key.fd, pipe)

    def _pass_on(self, within_s: float) -> None:
        for key, _ in self._selector.select(within_s):
            if not self._read(key.fd, key.data):
                self._end(key.fd, key.data)

    def _read(self, descriptor: int, pipe: _Pipe) -> bool:
        """Whether there may be more."""
        try:
            data = os.read(descriptor, _READ_BYTES)
        except BlockingIOError:
            return False
        *lines, pipe.pending = (pipe.pending + data).split(b"\n")
        if len(pipe.pending) > _LINE_MAX:
            lines, pipe.pending = [*lines, pipe.pending], b""
        self._print(pipe, lines)
        return bool(data)

    def _end(self, descriptor: int, pipe: _Pipe) -> None:
        if pipe.pending:
            self._print(pipe, [pipe.pending])
        self._selector.unregister(descriptor)
        os.close(descriptor)

    def _print(self, pipe: _Pipe, lines: list[bytes]) -> None:
        text = b"".join(f"{pipe.name}: ".encode() + line + b"\n" for line in lines)
        if not pipe.is_output:
            self.console.text(sanitize(text))
        elif sys.stdout.isatty():  # a build's own bytes, as they came from the node
            self.console.output(sanitize(text).encode())
        else:
            self.console.output(text)


@contextmanager
def _held_back() -> Iterator[None]:
    """A signal arrives after the block, in each of the two processes that leave it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _exit_code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code
