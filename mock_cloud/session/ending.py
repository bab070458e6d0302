# SPDX-License-Identifier: GPL-2.0-or-later
"""How a command ends: the one catch for everything that stops it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from mock_cloud.errors import EXIT_SIGPIPE, MockCloudError
from mock_cloud.session.console import Console
from mock_cloud.session.interrupts import Stopped, signals_raise


def end_well(console: Console, act: Callable[[], int]) -> int:
    """The exit code of `act`; what stops it is said in mock's words, with mock's code."""
    try:
        with signals_raise():
            code = act()
            sys.stdout.flush()
            return code
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
    except BrokenPipeError:
        # Whoever read our output is gone. Python would complain about it once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_SIGPIPE
