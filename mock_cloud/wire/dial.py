# SPDX-License-Identifier: GPL-2.0-or-later
"""TCP connections to whichever of a host's addresses answers first (RFC 8305, section 5)."""

from __future__ import annotations

import errno
import itertools
import os
import selectors
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

STAGGER_S: Final = 0.25
"""Between one address and the next, while the first has neither answered nor failed."""
_ADDRESSES_MAX: Final = 16
"""How many are tried: a name is somebody else's word."""

AddressInfo = tuple[Any, ...]
"""What socket.getaddrinfo has of one address."""


def dial(
    host: str, port: int, timeout_s: float, made: Callable[[socket.socket], None] = lambda _: None
) -> socket.socket:
    """A connection to the host within so many seconds, look-up not included. OSError.

    `made`: see `connect_first`.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return connect_first(found, timeout_s, made=made)


def connect_first(
    found: Iterable[AddressInfo],
    timeout_s: float,
    *,
    made: Callable[[socket.socket], None] = lambda _: None,
    drop: Callable[[socket.socket], None] = socket.socket.close,
) -> socket.socket:
    """A connection to one of getaddrinfo's addresses. OSError: what the last had to say.

    They are tried in their order, the families in turn; each begins `STAGGER_S` after the one
    before, or when that has failed. `made` gets each socket before it is used, `drop` each but the
    one that is returned, which waits for nothing (``settimeout``).
    """
    waiting = _take_turns(list(found))[:_ADDRESSES_MAX]
    problem = OSError(errno.EADDRNOTAVAIL, "it has no address")
    deadline = time.monotonic() + timeout_s
    with selectors.DefaultSelector() as trying:
        try:
            next_at = 0.0
            while waiting or trying.get_map():
                now = time.monotonic()
                if waiting and (now >= next_at or not trying.get_map()):
                    next_at = now + STAGGER_S
                    try:
                        _begin(trying, waiting.pop(0), made, drop)
                    except OSError as error:
                        problem, next_at = error, now
                    continue
                if now >= deadline:
                    raise TimeoutError(errno.ETIMEDOUT, "timed out")
                until = min(deadline, next_at) if waiting else deadline
                for key, _ in trying.select(until - now):
                    sock: socket.socket = key.data
                    trying.unregister(sock)
                    status = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    if not status:
                        return sock
                    problem, next_at = OSError(status, os.strerror(status)), 0.0
                    drop(sock)
        finally:
            for key in list(trying.get_map().values()):
                drop(key.data)
    raise problem


def _begin(
    trying: selectors.BaseSelector, one: AddressInfo, made: Callable[[socket.socket], None],
    drop: Callable[[socket.socket], None],
) -> None:  # fmt: skip
    family, kind, protocol, _, address = one
    sock = socket.socket(family, kind, protocol)
    try:
        made(sock)
        sock.setblocking(False)
        status = sock.connect_ex(address)
        if status not in (0, errno.EINPROGRESS):
            raise OSError(status, os.strerror(status))
        trying.register(sock, selectors.EVENT_WRITE, sock)
    except BaseException:
        drop(sock)
        raise


def _take_turns(found: Sequence[AddressInfo]) -> list[AddressInfo]:
    first = [one for one in found if one[0] == found[0][0]]
    others = [one for one in found if one[0] != found[0][0]]
    pairs = itertools.zip_longest(first, others)
    return [one for pair in pairs for one in pair if one is not None]
