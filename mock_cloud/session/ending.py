# SPDX-License-Identifier: GPL-2.0-or-later
"""How a command ends: the one catch for everything that stops it."""

from __future__ import annotations

import sys
from collections.abc import Callable

from mock_cloud.entry import Unwritten
from mock_cloud.errors import EXIT_SIGPIPE, MockCloudError
from mock_cloud.session.console import Console, fall_silent
from mock_cloud.session.interrupts import Stopped, signals_raise

_EXIT_UNWRITTEN = 1


def end_well(console: Console, act: Callable[[], int]) -> int:
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
        # Whoever read our output is gone. Python would complain about it once more at exit.
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
