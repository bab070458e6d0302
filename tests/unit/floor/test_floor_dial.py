# SPDX-License-Identifier: GPL-2.0-or-later
"""Connections to a host with several addresses: one that is dead costs no minute."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from mock_cloud.wire.dial import AddressInfo, connect_first, dial
from mock_cloud.wire.reach import find_reached

LONG_S = 600.0
FAR_LESS_S = 60.0  # the kernel itself gives a dead address up after two minutes


@pytest.fixture
def dead() -> Iterator[int]:
    """A port that answers no one, as behind a firewall that drops: its queue is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = []
        for _ in range(4):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
            waiting.append(one)
        yield listener.getsockname()[1]
        for one in waiting:
            one.close()


@pytest.fixture
def live() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def at(port: int, host: str = "127.0.0.1") -> AddressInfo:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    address = (host, port, 0, 0) if ":" in host else (host, port)
    return (family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address)


def test_a_dead_address_costs_no_minute(dead: int, live: int) -> None:
    began = time.monotonic()
    made: list[socket.socket] = []
    dropped: list[socket.socket] = []

    def drop(one: socket.socket) -> None:
        dropped.append(one)
        one.close()

    found = [at(dead), at(dead), at(live)]
    with connect_first(found, LONG_S, made=made.append, drop=drop) as sock:
        assert sock.getpeername()[1] == live
        assert made[2:] == [sock] and dropped == made[:2]
    assert time.monotonic() - began < FAR_LESS_S


def test_families_take_turns(dead: int, live: int) -> None:
    """Of many addresses of a dead family one is tried before the other family is."""
    made: list[socket.socket] = []
    six = [at(1, "100::1"), at(1, "100::2"), at(1, "100::3")]  # RFC 6666: discarded
    with connect_first([*six, at(live)], LONG_S, made=made.append) as sock:
        assert sock.getpeername()[1] == live and len(made) == 2


def test_what_fails_says_so(dead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = listener.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        connect_first([at(closed), at(closed)], LONG_S)
    with pytest.raises(TimeoutError):
        connect_first([at(dead)], 0.1)
    with pytest.raises(OSError, match="no address"):
        connect_first([], 1)


def test_a_name_with_a_dead_address_is_reached(
    dead: int, live: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = [at(dead), at(live)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_words, **_more: both)
    dial("both.example", live, LONG_S).close()
    assert find_reached([("both.example", live)], 5.0) == [True]
