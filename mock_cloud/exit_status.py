# SPDX-License-Identifier: GPL-2.0-or-later
"""How a command ends: signals as exceptions, and the one catch that gives the exit status."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType

from mock_cloud.console import Console, fall_silent
from mock_cloud.entry import Unwritten
from mock_cloud.errors import EXIT_INTERRUPTED, EXIT_SIGPIPE, MockCloudError

_EXIT_UNWRITTEN = 1


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


def end_well(console: Console, act: Callable[[], int]) -> int:
    """See `_end`; the console is told of the code."""
    code = _end(console, act)
    console.close(code)
    return code


def _end(console: Console, act: Callable[[], int]) -> int:
    """The exit code of `act`; what stops it is said in mock's words, with mock's code.

    Where standard output takes nothing, a code that is not 0 stays as it was.
    """
    code = 0
    try:
        with signals_raise():
            code = act()
            sys.stdout.flush()
            return code or (_EXIT_UNWRITTEN if console.is_output_lost else 0)
    except Stopped as stopped:
        console.done()
        console.error(
            "Exiting on user interrupt, <CTRL>-C" if stopped.number == 2 else str(stopped)
        )
        return stopped.exit_code
    except MockCloudError as error:
        console.done()
        console.failure(error)
        return error.exit_code
    except SystemExit as ended:  # argparse's, after --help or a mistake
        code = ended.code if isinstance(ended.code, int) else 0
        return code if _flush(console) else code or _EXIT_UNWRITTEN
    except BrokenPipeError:
        # The reader of our output is gone. Python would complain about it once more at exit.
        fall_silent(sys.stdout)
        return EXIT_SIGPIPE
    except Unwritten as error:
        _tell(error, console)
        return code or _EXIT_UNWRITTEN


def _flush(console: Console) -> bool:
    """Whether standard output took all of it; else that was said, and it is silent from now on."""
    try:
        sys.stdout.flush()
    except Unwritten as error:
        _tell(error, console)
        return False
    return True


def _tell(error: Unwritten, console: Console) -> None:
    fall_silent(sys.stdout)
    console.error(f"cannot write to standard output: {error.strerror}")
