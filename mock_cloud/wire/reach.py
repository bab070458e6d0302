# SPDX-License-Identifier: GPL-2.0-or-later
"""Which servers this machine reaches: a TCP connection to each, many at a time, nothing sent."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any, Final

from mock_cloud.wire.dial import dial

ENDS_MAX: Final = 64
"""How many are tried at a time, and how many one request may ask for."""
WITHIN_MAX_MS: Final = 10_000
_HOST_MAX: Final = 253

_End = tuple[str, int]
"""A host and a port."""


def parse_ends(ends: list[Any], within_ms: int) -> list[_End]:
    """The ends of a request, as JSON has them. ValueError, also for too much time."""
    if len(ends) > ENDS_MAX or not 1 <= within_ms <= WITHIN_MAX_MS:
        raise ValueError("too many ends, or too much time for them")
    return [_parse_end(one) for one in ends]


def _parse_end(raw: Any) -> _End:
    if isinstance(raw, list) and len(raw) == 2:
        host, port = raw
        is_host = isinstance(host, str) and 0 < len(host) <= _HOST_MAX
        if is_host and type(port) is int and 0 < port < 1 << 16:
            return host, port
    raise ValueError("an end is a host and a port")


def find_reached(ends: Sequence[_End], within_s: float) -> list[bool]:
    """For each end whether it was reached, each `ENDS_MAX` of them within so many seconds.

    A look-up of names that hangs is left behind: it can't be called off.
    """
    reached: set[_End] = set()

    def look(end: _End) -> None:
        try:
            dial(*end, within_s).close()
        except (OSError, UnicodeError):  # a name that is not a name is not reached either
            return
        reached.add(end)

    for start in range(0, len(ends), ENDS_MAX):
        deadline = time.monotonic() + within_s
        wanted = set(ends[start : start + ENDS_MAX])
        threads = [threading.Thread(target=look, args=(end,), daemon=True) for end in wanted]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
    return [end in reached for end in ends]
