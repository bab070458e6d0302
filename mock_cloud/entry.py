# SPDX-License-Identifier: GPL-2.0-or-later
"""What each program of mock-cloud does first, before it imports anything that takes time.

It stands before every local build too, so it imports next to nothing.
"""

from __future__ import annotations

import atexit
import gc
import io
import os
import signal
import sys


class Unwritten(OSError):
    """Standard output does not take what is printed; why is in `strerror`."""


class _Output(io.TextIOWrapper):
    """Standard output, whose failures can be told from those of other files."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError as error:
            raise _told(error) from error

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            raise _told(error) from error


def _told(error: OSError) -> OSError:
    return error if isinstance(error, BrokenPipeError) else Unwritten(error.errno, error.strerror)


def quiet_interrupts() -> None:
    """Until the command handles signals itself, Ctrl-C ends it as the shell expects: silently."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not under nohup's like
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def leave_quickly() -> None:
    """At the end of the process nobody searches it for garbage."""
    atexit.register(gc.freeze)


def mend_streams() -> None:
    """Give the process the three standard streams it may count on, whatever it was started with.

    A closed one is /dev/null's: else the next file or socket that is opened would get its number,
    and what is printed. What the locale's encoding lacks is written as an escape.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free: this one
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    before = sys.stdout
    if isinstance(before, io.TextIOWrapper):
        # Beside the first one, which others look at too: shutil asks it for the terminal's size.
        raw = io.FileIO(before.fileno(), "w", closefd=False)
        sys.stdout = _Output(
            raw if before.write_through else io.BufferedWriter(raw),
            encoding=before.encoding,
            errors="backslashreplace",
            line_buffering=before.line_buffering,
            write_through=before.write_through,
        )
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(errors="backslashreplace")
