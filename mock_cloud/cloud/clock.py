# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether somebody set this machine's clock: leases say when they end by it."""

from __future__ import annotations

import time
from typing import Final

_LEAST_S: Final = 60.0
"""NTP's slewing, of 0.5 ms a second at most (adjtimex(2)), makes less in a node's life."""


class ClockSteps:
    """Steps of the clock since this was made: what is set differs from what passed since the boot.

    A machine that slept makes none.
    """

    def __init__(self) -> None:
        self._before_s = self._ahead_s = _ahead_of_boot_s()

    @property
    def total_s(self) -> float:
        """By how much the clock was set forward, all in all."""
        total_s = _ahead_of_boot_s() - self._before_s
        return total_s if abs(total_s) >= _LEAST_S else 0.0

    def take_s(self) -> float:
        """By how much since this was last asked."""
        ahead_s = _ahead_of_boot_s()
        step_s = ahead_s - self._ahead_s
        if abs(step_s) < _LEAST_S:
            return 0.0
        self._ahead_s = ahead_s
        return step_s


def _ahead_of_boot_s() -> float:
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
