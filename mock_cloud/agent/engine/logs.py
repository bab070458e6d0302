# SPDX-License-Identifier: GPL-2.0-or-later
"""The three logs of a resultdir and what the user sees, in the formats of mock's logging.ini.

root.log: ``LEVEL FILE:LINE:  message``. state.log: ``TIME - message``. build.log: the message
alone. All are opened for appending and never renamed, so that they can be followed.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from mock_cloud.wire.terminal_log import STDERR, STDOUT, TerminalWriter

_NAMES: Final = ("root.log", "build.log", "state.log")
_LINE_MAX: Final = 1 << 20
_COLOUR: Final = re.compile(r"\x1b\[([0-9]{1,2}(;[0-9]{1,2})?)?[mK]\x0f?")

QUIET: Final = 0
NORMAL: Final = 1
DEBUG: Final = 2


class Logs:
    """Writes to the logs and to the terminal; `verbose` is mock's 0 (-q), 1, 2 (-v)."""

    def __init__(self, terminal: TerminalWriter, verbose: int, *, show_output: bool) -> None:
        self.terminal = terminal
        self._verbose = verbose
        self.show_output = show_output
        self._files: dict[str, int] = {}
        self._states: list[str] = []
        self._is_announced = False
        self.tail = b""
        self.version = ""
        self.directory = ""
        self.on_state: Callable[[str], None] = lambda name: None

    def open(self, results: str, version: str) -> None:
        """Log into the directory `results` from now on; what is there is kept."""
        self.close()
        self.version, self.directory = version, results
        os.makedirs(results, mode=0o755, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        for name in _NAMES:
            self._files[name] = os.open(os.path.join(results, name), flags, 0o644)
        banner = f"Mock Version: mock-cloud {version}"
        self._state_log(banner)
        self.build_line(banner)
        self._root_log("INFO", banner)
        self._is_announced = False

    def announce(self, *, again: bool = False) -> None:
        """Say once for each opening which version works: mock does as it makes a chroot.

        `again`: also if nothing was opened since; mock does for each package of a chain.
        """
        self._is_announced = self._is_announced and not again
        if self._files and not self._is_announced and self._verbose >= NORMAL:
            self._print(f"INFO: Mock Version: mock-cloud {self.version}\n")
        self._is_announced = True

    def close(self) -> None:
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files.clear()

    # what mock's root logger gets

    def info(self, message: str) -> None:
        self._root_log("INFO", message)
        if self._verbose >= NORMAL:
            self._print(f"INFO: {message}\n")

    def warning(self, message: str) -> None:
        self._root_log("WARNING", message)
        self._print(f"WARNING: {message}\n")

    def error(self, message: str) -> None:
        self._root_log("ERROR", message)
        self._print(f"ERROR: {message}\n")

    def critical(self, message: str) -> None:
        self._root_log("CRITICAL", message)
        self._print(f"CRITICAL: {message}\n")

    def debug(self, message: str) -> None:
        self._root_log("DEBUG", message)
        if self._verbose >= DEBUG:
            self._print(f"DEBUG: {message}\n")

    # states

    @contextmanager
    def state(self, name: str) -> Iterator[None]:
        """``Start: NAME`` now and ``Finish: NAME`` at the end, in state.log and on the terminal.

        As with mock, a failure leaves ``run`` unfinished and finishes everything else.
        """
        self._state(f"Start: {name}")
        self._states.append(name)
        self.on_state(name)
        try:
            yield
        except BaseException:
            if name != "run":
                self._state(f"Finish: {name}")
            raise
        else:
            self._state(f"Finish: {name}")
        finally:
            self._states.pop()
            if self._states:
                self.on_state(self._states[-1])

    def _state(self, message: str) -> None:
        self._state_log(message)
        if self._verbose >= NORMAL:
            self._print(message + "\n")

    # output of commands

    def build_line(self, message: str) -> None:
        """One line of our own in build.log."""
        self._write("build.log", message.encode(errors="surrogateescape") + b"\n")

    def build_sink(self) -> tuple[Callable[[bytes], None], Callable[[], None]]:
        """(sink, finish) for rpmbuild: its output goes to build.log as mock cleans it.

        Empty lines are left out, what is not UTF-8 becomes U+FFFD, and colours vanish.
        """
        return self._line_sink(self._build_output)

    def root_sink(self) -> tuple[Callable[[bytes], None], Callable[[], None]]:
        """(sink, finish) for a command whose output lines go to root.log as mock logs them."""
        return self._line_sink(self._root_output)

    def _line_sink(
        self, write: Callable[[list[bytes]], None]
    ) -> tuple[Callable[[bytes], None], Callable[[], None]]:
        pending = b""

        def sink(data: bytes) -> None:
            nonlocal pending
            self._remember(data)
            self._show(data)
            *lines, pending = (pending + data).split(b"\n")
            if len(pending) > _LINE_MAX:
                lines, pending = [*lines, pending], b""
            write([_clean(line) for line in lines if line])

        def finish() -> None:
            nonlocal pending
            if pending:
                write([_clean(pending)])
                pending = b""

        return sink, finish

    def _build_output(self, lines: list[bytes]) -> None:
        self._write("build.log", b"".join(line + b"\n" for line in lines))

    def _root_output(self, lines: list[bytes]) -> None:
        lead = b"DEBUG util.py:462:  "
        text = b"".join(lead + line.rstrip(b"\r") + b"\n" for line in lines)
        self._write("root.log", text)

    def _remember(self, data: bytes) -> None:
        self.tail = (self.tail + data)[-8192:]

    def _show(self, data: bytes) -> None:
        if self.show_output:
            self.terminal.write(STDOUT, data)

    def _print(self, text: str) -> None:
        self.terminal.write(STDERR, text.encode(errors="surrogateescape"))

    def _state_log(self, message: str) -> None:
        now = time.time()
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
        line = f"{stamp},{int(now % 1 * 1000):03d} - {message}\n"
        self._write("state.log", line.encode(errors="surrogateescape"))

    def _root_log(self, level: str, message: str) -> None:
        line = f"{level} backend.py:0:  {message}\n"
        self._write("root.log", line.encode(errors="surrogateescape"))

    def _write(self, name: str, data: bytes) -> None:
        descriptor = self._files.get(name)
        view = memoryview(data)
        while descriptor is not None and view:
            view = view[os.write(descriptor, view) :]


def _clean(line: bytes) -> bytes:
    """As mock's logOutput does: bytes that are no UTF-8 become U+FFFD, colours vanish."""
    return _COLOUR.sub("", line.decode("utf-8", "replace")).encode()


# hw_info.log: what mock's plugin of that name shows, read from /proc instead of spawning.
_CPU_FIELDS: Final = ("vendor_id", "model name", "cpu family", "model", "stepping", "flags")
_MEMORY_FIELDS: Final = ("MemTotal", "MemFree", "MemAvailable", "SwapTotal", "SwapFree")


def describe_hardware(places: Sequence[str]) -> str:
    """CPU, memory, and the file systems of the directories `places`, as text."""
    uname = os.uname()
    cpu = [f"Architecture: {uname.machine}", f"Kernel: {uname.release}"]
    cpu.append(f"CPU(s): {os.cpu_count()}")
    facts = _first_values("/proc/cpuinfo")
    cpu += [f"{name}: {facts[name]}" for name in _CPU_FIELDS if name in facts]
    memory = _first_values("/proc/meminfo")
    lines = [f"{name}: {memory[name]}" for name in _MEMORY_FIELDS if name in memory]
    storage = ["Filesystem size, free and free inodes:"]
    for place in places:
        facts_of = os.statvfs(place)
        total = facts_of.f_frsize * facts_of.f_blocks
        free = facts_of.f_frsize * facts_of.f_bavail
        storage.append(f"{place}: {total} bytes, {free} bytes, {facts_of.f_favail}")
    sections = (
        ("CPU info:", cpu),
        ("Memory:", lines),
        ("Storage (chroot, workspace):", storage),
    )
    return "\n\n".join("\n".join((title, *body)) for title, body in sections) + "\n"


def _first_values(path: str) -> dict[str, str]:
    values: dict[str, str] = {}
    with open(path, encoding="utf-8", errors="replace") as stream:
        for line in stream:
            name, separator, value = line.partition(":")
            if separator:
                values.setdefault(name.strip(), value.strip())
    return values
