# SPDX-License-Identifier: GPL-2.0-or-later
"""What the user sees: mock's own lines on stderr, and below them how far the command is.

mock writes ``LEVEL: message`` to stderr (its `logging.ini`); so do we, so that scripts which
read it go on working. What stands below is drawn on a terminal only, never into a file.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import TextIO

from mock_cloud.errors import (
    AttestationRefused,
    InputError,
    MockCloudError,
    UsageError,
    explaining,
)
from mock_cloud.progress.printers import FailureReport, Json, Plain, Printer, Silent
from mock_cloud.progress.spans import Spans, asks_for_spans
from mock_cloud.progress.timeline import NodePrice, ProgressMode, Timeline
from mock_cloud.wire.terminal_text import printable

QUIET, NORMAL, VERBOSE = 0, 1, 2
_REDRAW_S = 0.1
_TICK_S = 0.5
_STATE = re.compile(r"^(?:INFO: )?Start: (.*)$", re.MULTILINE)
"""What the node's engine says of where it is."""


class Console:
    """Lines for people. `verbose` is mock's: 0 for -q, 1, 2 for -v. Safe from any thread.

    What a command does is told as phases; a printer of `mock_cloud.progress` makes text of them.
    """

    def __init__(self, verbose: int = NORMAL, stream: TextIO | None = None) -> None:
        self._verbose = verbose
        self._stream = stream if stream is not None else sys.stderr
        self.is_terminal = self._stream.isatty()
        """Whether it was one when this began: it may have been closed since."""
        self._animated = self.is_terminal and os.environ.get("TERM", "dumb") != "dumb"
        self._lock = threading.Lock()
        self._mode = ProgressMode.AUTO
        self._timeline = Timeline()
        self._printer: Printer = Silent()
        self._spans = Spans() if asks_for_spans(os.environ) else None
        self._failed_by = ""
        self._is_raw = False
        self._begins_line = True
        self._transient = ""
        self._below: Sequence[str] = ()
        """The lines that stand below the last one that stays, as they were drawn."""
        self._drawn_at = 0.0
        self._ticks: threading.Thread | None = None
        self._stop = threading.Event()
        self._kept = ""
        self.keeps_phases = False
        """Where nothing can be shown in passing, each phase is a line: for what takes minutes."""
        self.is_output_lost = False
        """Standard output did not take all that it was given, which was said."""

    def set_raw(self, raw: bool) -> None:
        """Whether the terminal is raw just now: then a line feed alone does not begin a line."""
        with self._lock:
            self._is_raw = raw
            if raw:
                self._write(self._erase())

    def set_verbosity(self, verbose: int) -> None:
        """0, 1 or 2, once the command line is known."""
        self._verbose = verbose

    def set_progress(self, mode: ProgressMode) -> None:
        """How progress is shown, once the command line is known."""
        self._mode = mode
        self._animated = self._animated and mode is ProgressMode.AUTO
        if mode is ProgressMode.PLAIN:
            self._printer = Plain(self._timeline)
        elif mode is ProgressMode.JSON:
            self._printer = Json(self._timeline)

    @property
    def is_explaining(self) -> bool:
        """Whether more is said than scripts expect: to people, and to who asked for progress."""
        if self._verbose < NORMAL or self._mode is ProgressMode.NONE:
            return False
        return self.is_terminal or self._mode is not ProgressMode.AUTO

    def debug(self, message: str) -> None:
        if self._verbose >= VERBOSE:
            self._line("DEBUG", message)

    def info(self, message: str) -> None:
        if self._verbose >= NORMAL:
            self._line("INFO", message)

    def warning(self, message: str) -> None:
        self._line("WARNING", message)

    def error(self, message: str) -> None:
        self._line("ERROR", message)

    def start(self, state: str) -> None:
        """mock's ``Start: STATE``."""
        if self._verbose >= NORMAL:
            self._line("Start", state)

    def finish(self, state: str) -> None:
        """mock's ``Finish: STATE``."""
        if self._verbose >= NORMAL:
            self._line("Finish", state)

    def failure(self, error: MockCloudError) -> None:
        """What failed and where; what to do next; of a refusal, the command that explains it."""
        self._failed_by = error.kind
        # As mock has it: for what was asked, not for what an engine lacks.
        level = "CRITICAL" if isinstance(error, (UsageError, InputError)) else "ERROR"
        self._line(level, error.message)
        if error.hint:
            self._line("", f"       {error.hint}")
        if isinstance(error, AttestationRefused) and error.reasons:
            self._line("", f"       {explaining(error.reasons[0])}")
        self.explain(FailureReport(error.kind, error.exit_code, error.message, error.hint or ""))

    def explain(self, why: FailureReport) -> None:
        """Say more of a failure than scripts expect, to people and to who asked for it."""
        self._failed_by = why.kind
        if self.is_explaining:
            self._emit(self._printer.failed(why))

    def text(self, text: str) -> None:
        """Text of the node's terminal, already made harmless; it ends its own lines."""
        states = _STATE.findall(text)
        with self._lock:
            if states and self._timeline.now is not None:
                self._timeline.now.detail = states[-1]
        self._emit(self._printer.text(text))

    def output(self, data: bytes) -> None:
        """Bytes for standard output; nothing is said once nobody reads it."""
        try:
            with self._lock:
                self._transient = ""
                self._write(self._erase())
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
                if data and self._animated and sys.stdout.isatty():
                    self._begins_line = data.endswith(b"\n")
                self._write(self._draw())
        except OSError as error:
            fall_silent(sys.stdout)
            if not isinstance(error, BrokenPipeError):
                self.is_output_lost = True
                self.error(f"cannot write to standard output: {error.strerror}")

    def begin_phase(self, name: str) -> None:
        """A part of what the command does begins, and the one before has ended."""
        is_shown = self._verbose >= NORMAL
        if not is_shown and self._spans is None:
            return
        if is_shown:
            self._go_live()
        with self._lock:
            told = self._end_phase(is_shown)
            phase = self._timeline.begin(name)
            if is_shown:
                told += self._printer.began(phase)
            if self._spans is not None:
                self._spans.begin(self._timeline.began_s)
        self._emit(told)

    def _end_phase(self, is_shown: bool) -> str:
        """What is printed of the end of the phase that goes on."""
        ended = self._timeline.end()
        if ended is None:
            return ""
        if self._spans is not None:
            self._spans.ended(ended)
        return self._printer.ended(ended) if is_shown else ""

    def note(self, **facts: str | int) -> None:
        """What the command is about, for traces: attributes by name."""
        if self._spans is not None:
            with self._lock:
                self._spans.note(facts)

    def close(self, exit_code: int) -> None:
        """The command ends with this code: nothing is told of it any more. Idempotent."""
        if self._spans is not None:
            with self._lock:
                self._spans.end(exit_code, self._failed_by)

    def take_node(self, price: NodePrice | None) -> None:
        """A node is held from now on, and costs."""
        self._timeline.take_node(price)

    def keep_node(self, until_unix: float | None) -> None:
        """The node was given back, and lives until then; None: it has ended."""
        self._timeline.kept_until_unix = until_unix

    def expect(self, seconds: float | None) -> None:
        """How long it takes from now on, if it takes as long as the last time; None: unknown."""
        self._timeline.expected_s = None if seconds is None else self._timeline.took_s + seconds

    def end_phases(self) -> None:
        """The last phase has ended: say what took how long. Idempotent."""
        self._stop_drawing()
        if not self._timeline.phases:
            return
        with self._lock:
            # Of one that was refused before anything began there is nothing to say.
            is_shown = self._verbose >= NORMAL and len(self._timeline.phases) > 1
            told = self._end_phase(is_shown)
            if is_shown:
                told += self._printer.finished(self._timeline)
            self._timeline.phases.clear()
            if told and not self._begins_line:
                told = f"\n{told}"
        self._emit(told)

    def progress(self, message: str, done_bytes: int = 0, total_bytes: int = 0) -> None:
        """Show `message` in passing; several calls a second are cheap."""
        with self._lock:
            if total_bytes:
                self._timeline.move(done_bytes, total_bytes)
            now, phase = time.monotonic(), self._timeline.now
            if now - self._drawn_at < _REDRAW_S:
                return
            self._drawn_at = now
            told = self._printer.moved(phase) if total_bytes and phase is not None else ""
        if told:
            self._emit(told)
        elif self._animated:
            self.phase(message)

    def phase(self, message: str) -> None:
        """Show `message` in passing, even if the one before came just now."""
        is_shown = self._verbose >= NORMAL
        if not is_shown and self._spans is None:
            return
        with self._lock:
            self._drawn_at = time.monotonic()
            phase, told = self._timeline.now, ""
            if phase is not None and phase.detail != message:
                phase.detail = message
                told = self._printer.detail(phase) if is_shown else ""
                if self._spans is not None:
                    self._spans.detail(phase)
            if self._animated:
                self._transient = message
            is_line = self.keeps_phases and is_shown and not self._animated
            is_line = is_line and message != self._kept
            self._kept = message
        self._emit(self._printer.line("INFO", printable(message)) if is_line else told)

    def show(self, message: str) -> None:
        """A phase; one that is waited for is a line, since it may take minutes."""
        (self.info if message.startswith("waiting") else self.phase)(message)

    def done(self) -> None:
        """Remove what is shown in passing."""
        with self._lock:
            self._transient = ""
            if self._ticks is None:
                self._write(self._erase())

    def _go_live(self) -> None:
        """On a terminal, where rich is installed, phases are a table that is kept up to date."""
        if not self._animated or self._ticks is not None:
            return
        try:
            from mock_cloud.progress.live_view import Live
        except ImportError:  # rich is not installed
            self._printer, self._animated = Plain(self._timeline), False
            return
        self._keep_drawing(Live(self._timeline, self._stream.fileno()))

    def watch(self, make: Callable[[int], Printer]) -> bool:
        """Keep the view of a printer up to date until `end_watch`; False where there can be none.

        `make` is given the terminal's descriptor; its ImportError says that rich is not installed.
        """
        if not self._animated:
            return False
        try:
            printer = make(self._stream.fileno())
        except ImportError:
            return False
        self._keep_drawing(printer)
        return True

    def end_watch(self) -> None:
        """The view stays as it was last, and is not kept up to date any more."""
        self._stop_drawing()
        with self._lock:
            self._write(self._erase())
            stays = "".join(f"{line}\n" for line in self._printer.view())
            self._printer = Silent()
        self._emit(stays)

    def _keep_drawing(self, printer: Printer) -> None:
        self._printer = printer
        self._stop.clear()
        self._ticks = threading.Thread(target=self._tick, name="progress", daemon=True)
        self._ticks.start()

    def _stop_drawing(self) -> None:
        ticks, self._ticks = self._ticks, None
        if ticks is not None:
            self._stop.set()
            ticks.join()

    def _tick(self) -> None:
        while not self._stop.wait(_TICK_S):
            self._emit("")

    def _line(self, level: str, text: str) -> None:
        # Names of files and words of a node may hold anything.
        self._emit(self._printer.line(level, printable(text)))

    def _emit(self, text: str) -> None:
        """Write `text` above what stands below, in one piece, so that nothing flickers."""
        with self._lock:
            before = self._erase()
            if text:
                self._transient = ""
                self._begins_line = text.endswith("\n")
            shown = text.replace("\n", "\r\n") if self._is_raw else text
            self._write(before + shown + self._draw())

    def _draw(self) -> str:
        """What brings the lines below: nothing where the cursor stands in a line of the job's."""
        if not self._animated or self._is_raw or not self._begins_line:
            return ""
        if self._ticks is not None:
            self._below = self._printer.view()
        elif self._transient:
            width = shutil.get_terminal_size().columns - 1
            self._below = [printable(self._transient)[:width]]
        return "\n".join(self._below)

    def _erase(self) -> str:
        """What removes the lines below; the cursor is at the end of the last one."""
        below, self._below = self._below, ()
        if len(below) < 2:
            return "\r\x1b[K" if below else ""
        return f"\r\x1b[{len(below) - 1}A\x1b[J"

    def _write(self, text: str) -> None:
        """A terminal that was closed, or a reader that went away, must not stop the clean-up."""
        if not text:
            return
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
