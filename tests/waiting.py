# SPDX-License-Identifier: GPL-2.0-or-later
"""Waiting for what another thread or process does, however loaded the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_for(is_so: Callable[[], object], timeout_s: float = 300.0) -> None:
    """Returns once `is_so()`; the limit is only there so that a suite ends."""
    until = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.01)
