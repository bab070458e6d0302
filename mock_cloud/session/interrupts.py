# SPDX-License-Identifier: GPL-2.0-or-later
"""Signals that ask us to stop, as exceptions, so that everything acquired is given back."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from mock_cloud.errors import EXIT_INTERRUPTED


class Stopped(BaseException):
    """A signal asked us to stop. Like KeyboardInterrupt no Exception, so nothing swallows it.

    `exit_code` is mock's: 7 for Ctrl-C, 128 plus its number for another signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"Exiting on signal {signal.Signals(number).name}")
        self.number = number

    @property
    def exit_code(self) -> int:
        return EXIT_INTERRUPTED if self.number == signal.SIGINT else 128 + self.number


_again = False


@contextlib.contextmanager
def interruptible(allowed: bool = True) -> Iterator[None]:
    """Within the block another signal raises Stopped, too, unless it is not `allowed`."""
    global _again  # noqa: PLW0603  the handler is the process's
    _again = allowed
    try:
        yield
    finally:
        _again = False


@contextlib.contextmanager
def signals_raise() -> Iterator[None]:
    """Within the block SIGINT, SIGTERM and SIGHUP raise Stopped, in the main thread.

    Only the first does, but for those within `interruptible`: what follows would interrupt the
    clean-up, or after the block what is left of the program.
    """
    stopped = False

    def stop(number: int, _frame: FrameType | None) -> None:
        nonlocal stopped
        global _again
        if not stopped or _again:
            stopped, _again = True, False
            raise Stopped(number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if stopped else handler)
