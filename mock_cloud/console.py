# SPDX-License-Identifier: GPL-2.0-or-later
"""What the user sees: mock's own lines on stderr, and one transient line for remote phases.

mock writes ``LEVEL: message`` to stderr (its `logging.ini`); so do we, so that scripts which
read it go on working. The transient line is drawn on a terminal only, never into a file.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Sequence
from typing import TextIO

from mock_cloud.errors import (
    AttestationRefused,
    InputError,
    MockCloudError,
    UsageError,
    explaining,
)
from mock_cloud.wire.terminal_text import printable

QUIET, NORMAL, VERBOSE = 0, 1, 2
_REDRAW_S = 0.1


class Console:
    """Lines for people. `verbose` is mock's: 0 for -q, 1, 2 for -v. Safe from any thread."""

    def __init__(self, verbose: int = NORMAL, stream: TextIO | None = None) -> None:
        self._verbose = verbose
        self._stream = stream if stream is not None else sys.stderr
        self.is_terminal = self._stream.isatty()
        """Whether it was one when this began: it may have been closed since."""
        self._animated = self.is_terminal and os.environ.get("TERM", "dumb") != "dumb"
        self._lock = threading.Lock()
        self._transient = ""
        self._drawn_at = 0.0
        self._line_end = "\n"
        self.is_output_lost = False
        """Standard output did not take all that it was given, which was said."""

    def set_raw(self, raw: bool) -> None:
        """Whether the terminal is raw just now: then a line feed alone does not begin a line."""
        with self._lock:
            self._line_end = "\r\n" if raw else "\n"

    def set_verbosity(self, verbose: int) -> None:
        """0, 1 or 2, once the command line is known."""
        self._verbose = verbose

    def debug(self, message: str) -> None:
        if self._verbose >= VERBOSE:
            self._line(f"DEBUG: {message}")

    def info(self, message: str) -> None:
        if self._verbose >= NORMAL:
            self._line(f"INFO: {message}")

    def warning(self, message: str) -> None:
        self._line(f"WARNING: {message}")

    def error(self, message: str) -> None:
        self._line(f"ERROR: {message}")

    def start(self, state: str) -> None:
        """mock's ``Start: STATE``."""
        if self._verbose >= NORMAL:
            self._line(f"Start: {state}")

    def finish(self, state: str) -> None:
        """mock's ``Finish: STATE``."""
        if self._verbose >= NORMAL:
            self._line(f"Finish: {state}")

    def failure(self, error: MockCloudError) -> None:
        """What failed and where; what to do next; of a refusal, the command that explains it."""
        # As mock has it: for what was asked, not for what an engine lacks.
        level = "CRITICAL" if isinstance(error, (UsageError, InputError)) else "ERROR"
        self._line(f"{level}: {error.message}")
        if error.hint:
            self._line(f"       {error.hint}")
        if isinstance(error, AttestationRefused) and error.reasons:
            self._line(f"       {explaining(error.reasons[0])}")

    def text(self, text: str) -> None:
        """Text of the node's terminal, already made harmless; it ends its own lines."""
        with self._lock:
            self._erase()
            self._write(text.replace("\n", self._line_end))

    def output(self, data: bytes) -> None:
        """Bytes for standard output; nothing is said once nobody reads it."""
        try:
            with self._lock:
                self._erase()
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
        except OSError as error:
            fall_silent(sys.stdout)
            if not isinstance(error, BrokenPipeError):
                self.is_output_lost = True
                self.error(f"cannot write to standard output: {error.strerror}")

    def progress(self, message: str) -> None:
        """Show `message` in the transient line; several calls a second are cheap."""
        if time.monotonic() - self._drawn_at >= _REDRAW_S:
            self.phase(message)

    def phase(self, message: str) -> None:
        """Show `message` in the transient line, even if the one before came just now."""
        if not self._animated or self._verbose < NORMAL:
            return
        with self._lock:
            self._drawn_at = time.monotonic()
            width = shutil.get_terminal_size().columns - 1
            self._erase()
            self._transient = printable(message)[:width]
            self._write(self._transient)

    def show(self, message: str) -> None:
        """A phase; one that is waited for is a line, since it may take minutes."""
        (self.info if message.startswith("waiting") else self.phase)(message)

    def done(self) -> None:
        """Remove the transient line."""
        with self._lock:
            self._erase()

    def _line(self, text: str) -> None:
        with self._lock:
            self._erase()
            # Names of files and words of a node may hold anything.
            self._write(printable(text) + self._line_end)

    def _erase(self) -> None:
        if self._transient:
            self._write("\r\x1b[K")
            self._transient = ""

    def _write(self, text: str) -> None:
        """A terminal that was closed, or a reader that went away, must not stop the clean-up."""
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:
            fall_silent(self._stream)


def fall_silent(stream: TextIO) -> None:
    """Let what is written to `stream` vanish, also what Python flushes when it exits."""
    null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(null, stream.fileno())
    os.close(null)


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print `rows`, the first of them the head; what cannot be printed is escaped."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (printable(cell).ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())
