# SPDX-License-Identifier: GPL-2.0-or-later
"""Which servers this node reaches: a TCP connection to each, all at a time, nothing sent."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any, Final

from mock_cloud.agent.serve_wire import Failure

ENDS_MAX: Final = 64
WITHIN_MAX_MS: Final = 10_000
_HOST_MAX: Final = 253


def find_reached(ends: list[Any], within_ms: int) -> list[bool]:
    """For each (host, port) whether it was reached in time. Failure ``bad-request``.

    A look-up of names that hangs is left behind: it can't be called off.
    """
    wanted = [_end(one) for one in ends]
    if len(wanted) > ENDS_MAX or not 1 <= within_ms <= WITHIN_MAX_MS:
        raise Failure("bad-request", "too many ends, or too much time for them")
    deadline = time.monotonic() + within_ms / 1000
    reached: set[tuple[str, int]] = set()

    def look(end: tuple[str, int]) -> None:
        try:
            socket.create_connection(end, within_ms / 1000).close()
        except (OSError, UnicodeError):  # a name that is no name is not reached either
            return
        reached.add(end)

    threads = [threading.Thread(target=look, args=(end,), daemon=True) for end in set(wanted)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return [end in reached for end in wanted]


def _end(raw: Any) -> tuple[str, int]:
    if isinstance(raw, list) and len(raw) == 2:
        host, port = raw
        is_host = isinstance(host, str) and 0 < len(host) <= _HOST_MAX
        if is_host and type(port) is int and 0 < port < 1 << 16:
            return host, port
    raise Failure("bad-request", "an end is a host and a port")
