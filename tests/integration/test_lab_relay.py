# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab's relay: it delays without limiting, limits, cuts, freezes and corrupts."""

from __future__ import annotations

import hashlib
import random
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.lab.relay import Direction, Relay

pytestmark = pytest.mark.lab  # for the leak guard: neither root nor the distribution is needed

MIB = 1 << 20


class Peer:
    """A server that answers `U` with the digest of what came, `D` with bytes, `E` with an echo."""

    def __init__(self, download: bytes) -> None:
        self._download = download
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept, name="peer")]
        self._threads[0].start()

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._listener.getsockname()
        return host, port

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), name="peer")
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                what = connection.recv(1)
                if what == b"U":
                    total = hashlib.sha256()
                    while data := connection.recv(MIB):
                        total.update(data)
                    connection.sendall(total.hexdigest().encode())
                elif what == b"D":
                    connection.sendall(self._download)
                else:
                    while data := connection.recv(MIB):
                        connection.sendall(data)
            except OSError:
                return


DATA = random.Random(1).randbytes(32 * MIB)  # noqa: S311 - reproducible, not secret


@pytest.fixture
def peer() -> Iterator[Peer]:
    running = Peer(DATA)
    yield running
    running.close()


def connect(relay: Relay, what: bytes) -> socket.socket:
    connection = socket.create_connection(relay.address, timeout=600)
    connection.sendall(what)
    return connection


def read_all(connection: socket.socket) -> bytes:
    pieces = []
    while data := connection.recv(MIB):
        pieces.append(data)
    return b"".join(pieces)


def round_trip_s(connection: socket.socket) -> float:
    started_s = time.monotonic()
    connection.sendall(b"x")
    assert connection.recv(1) == b"x"
    return time.monotonic() - started_s


@pytest.mark.parametrize("latency_s", [0.0, 0.05])
def test_carries_both_ways(peer: Peer, latency_s: float) -> None:
    with Relay(peer.address, latency_s=latency_s) as relay:
        with connect(relay, b"D") as connection:
            assert read_all(connection) == DATA
        with connect(relay, b"U") as connection:
            connection.sendall(DATA)
            connection.shutdown(socket.SHUT_WR)
            assert read_all(connection).decode() == hashlib.sha256(DATA).hexdigest()
        assert relay.moved_bytes(Direction.DOWN) == len(DATA) + 64


def test_latency_is_added_each_way(peer: Peer) -> None:
    with Relay(peer.address, latency_s=0.05) as relay, connect(relay, b"E") as connection:
        round_trip_s(connection)
        best_s = min(round_trip_s(connection) for _ in range(5))
        assert best_s >= 0.100


def test_bandwidth(peer: Peer) -> None:
    with Relay(peer.address, bandwidth_bytes_s=8e6) as relay, connect(relay, b"E") as connection:
        started_s = time.monotonic()
        connection.sendall(DATA[: 2 * MIB])
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection) == DATA[: 2 * MIB]
        assert time.monotonic() - started_s >= 0.25


def test_cut_after_exactly_so_many_bytes(peer: Peer) -> None:
    with Relay(peer.address) as relay:
        relay.cut_after(1_000_003, Direction.DOWN)
        got = bytearray()
        with connect(relay, b"D") as connection, pytest.raises(ConnectionResetError):
            while True:
                data = connection.recv(MIB)
                assert data, "an orderly end instead of a reset"
                got += data
        assert relay.moved_bytes(Direction.DOWN) == 1_000_003
        assert DATA.startswith(got)
        with connect(relay, b"D") as connection:
            assert read_all(connection) == DATA


def test_corrupts_one_bit(peer: Peer) -> None:
    with Relay(peer.address) as relay:
        relay.corrupt_after(12345, Direction.DOWN)
        with connect(relay, b"D") as connection:
            got = read_all(connection)
    wrong = [at for at in range(20_000) if got[at] != DATA[at]]
    assert wrong == [12345]
    assert (got[12345] ^ DATA[12345]).bit_count() == 1
    assert got[20_000:] == DATA[20_000:]


def test_freeze_and_thaw(peer: Peer) -> None:
    with Relay(peer.address) as relay, connect(relay, b"E") as connection:
        round_trip_s(connection)
        relay.freeze()
        connection.sendall(b"y")
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        relay.thaw()
        assert connection.recv(1) == b"y"


def test_cut_works_while_frozen(peer: Peer) -> None:
    with Relay(peer.address) as relay, connect(relay, b"E") as connection:
        round_trip_s(connection)
        relay.freeze()
        connection.sendall(b"y")
        relay.cut()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


def test_refuses_and_accepts_again(peer: Peer) -> None:
    with Relay(peer.address) as relay:
        relay.refuse()
        with pytest.raises(ConnectionResetError), connect(relay, b"E") as connection:
            connection.recv(1)
        relay.refuse(False)
        with connect(relay, b"E") as connection:
            assert round_trip_s(connection) < 1


def test_a_dead_target_resets() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # bound and not listening: nobody else can take the port
        with (
            Relay(deaf.getsockname()) as relay,
            pytest.raises(ConnectionResetError),
            connect(relay, b"E") as connection,
        ):
            connection.recv(1)
