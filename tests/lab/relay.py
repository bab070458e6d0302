# SPDX-License-Identifier: GPL-2.0-or-later
"""A TCP relay that stands for a bad line: latency, little bandwidth, cuts, silence, bit errors.

Each direction of a connection has a reader, which stamps what arrives with the time it is due,
and a writer, which delivers it then: latency delays bytes but does not limit their rate.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum

_CHUNK_BYTES = 256 << 10
_SOCKET_BUFFER_BYTES = 8 << 20
_QUEUE_BYTES = 64 << 20  # in flight: 640 MB/s at 100 ms one way
_PACED_CHUNK_S = 0.01  # a bandwidth limit delivers in pieces this long
_LOOK_S = 0.05  # how often a blocked thread looks whether its connection is over
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s: close() sends RST


class Direction(Enum):
    """UP is from who connected to the target, DOWN the way back."""

    UP = "up"
    DOWN = "down"


@dataclass(slots=True)
class _Line:
    """State of one direction that all its connections share."""

    moved_bytes: int = 0
    cut_in_bytes: int | None = None
    corrupt_in_bytes: int | None = None
    free_at_s: float = 0.0


class Relay:
    """Relays a local port to `target`; a context manager.

    `latency_s` is added each way; `bandwidth_bytes_s` limits each direction, all connections
    together. Both may be assigned while it runs. Leaving the block closes all connections
    and joins all threads.
    """

    def __init__(
        self,
        target: tuple[str, int],
        *,
        latency_s: float = 0.0,
        bandwidth_bytes_s: float | None = None,
        listen: tuple[str, int] = ("127.0.0.1", 0),
    ) -> None:
        self.target = target
        self.latency_s = latency_s
        self.bandwidth_bytes_s = bandwidth_bytes_s
        self._lock = threading.Lock()
        self._lines = {direction: _Line() for direction in Direction}
        self._thawed = {direction: threading.Event() for direction in Direction}
        self.thaw()
        self._closing = False
        self._refusing = False
        self._connections: set[_Connection] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(listen, backlog=128)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_BUFFER_BYTES)

    @property
    def address(self) -> tuple[str, int]:
        """Where to connect to."""
        host, port = self._listener.getsockname()[:2]
        return str(host), int(port)

    def __enter__(self) -> Relay:
        self._start(self._accept, "accept")
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        self.thaw()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        while self._threads:  # the accepting thread may still add to the list
            self._threads.pop().join()

    def moved_bytes(self, direction: Direction) -> int:
        """Bytes delivered in a direction since the relay started."""
        with self._lock:
            return self._lines[direction].moved_bytes

    def cut(self) -> None:
        """Reset every connection now. New ones are accepted."""
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.reset()

    def cut_after(self, size_bytes: int, direction: Direction) -> None:
        """Deliver `size_bytes` more in `direction`, then reset the connection that got them."""
        with self._lock:
            self._lines[direction].cut_in_bytes = size_bytes

    def corrupt_after(self, size_bytes: int, direction: Direction) -> None:
        """Flip one bit of the byte that follows the next `size_bytes` in `direction`."""
        with self._lock:
            self._lines[direction].corrupt_in_bytes = size_bytes

    def freeze(self, *directions: Direction) -> None:
        """Deliver nothing more that way, or neither way, and close nothing: a half-open line."""
        for direction in directions or Direction:
            self._thawed[direction].clear()

    def thaw(self) -> None:
        for thawed in self._thawed.values():
            thawed.set()

    def refuse(self, refusing: bool = True) -> None:
        """Whether new connections are reset at once."""
        self._refusing = refusing

    def _start(self, work: object, name: str) -> None:
        thread = threading.Thread(target=work, name=f"lab-relay-{name}")  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return  # closed by __exit__
            if self._refusing:
                _reset(near)
                continue
            try:
                far = socket.create_connection(self.target, timeout=30)
            except OSError:
                _reset(near)
                continue
            far.settimeout(None)
            connection = _Connection(self, near, far)
            with self._lock:
                self._connections.add(connection)
            for pipe in connection.pipes:
                self._start(pipe.read, "read")
                self._start(pipe.write, "write")
            if self._closing:
                connection.reset()

    def forget(self, connection: _Connection) -> None:
        with self._lock:
            self._connections.discard(connection)

    def wait_thawed(self, direction: Direction, over: threading.Event) -> None:
        """Return when the line moves again, or the connection is `over`."""
        while not self._thawed[direction].wait(_LOOK_S) and not over.is_set():
            pass

    def treat(self, direction: Direction, data: bytes) -> tuple[bytes, bool]:
        """What to deliver of `data`, and whether the connection is to be reset after it."""
        with self._lock:
            line = self._lines[direction]
            cut = False
            if line.cut_in_bytes is not None:
                cut = len(data) >= line.cut_in_bytes
                data = data[: line.cut_in_bytes]
                line.cut_in_bytes = None if cut else line.cut_in_bytes - len(data)
            if line.corrupt_in_bytes is not None:
                if line.corrupt_in_bytes < len(data):
                    changed = bytearray(data)
                    changed[line.corrupt_in_bytes] ^= 0x04
                    data, line.corrupt_in_bytes = bytes(changed), None
                else:
                    line.corrupt_in_bytes -= len(data)
            line.moved_bytes += len(data)
        return data, cut

    def reserve(self, direction: Direction, size_bytes: int) -> float:
        """Book time on the line for `size_bytes`; returns when it is over (monotonic)."""
        if not self.bandwidth_bytes_s:
            return 0.0
        with self._lock:
            line = self._lines[direction]
            line.free_at_s = max(line.free_at_s, time.monotonic())
            line.free_at_s += size_bytes / self.bandwidth_bytes_s
            return line.free_at_s

    def queue_limit_bytes(self) -> int:
        if not self.bandwidth_bytes_s:
            return _QUEUE_BYTES
        return int(max(64 << 10, self.bandwidth_bytes_s * (self.latency_s + 0.1)))

    def chunk_bytes(self) -> int:
        if not self.bandwidth_bytes_s:
            return _CHUNK_BYTES
        return int(min(_CHUNK_BYTES, max(512, self.bandwidth_bytes_s * _PACED_CHUNK_S)))


class _Connection:
    """A pair of sockets and the two pipes between them; the last of their threads closes it."""

    def __init__(self, relay: Relay, near: socket.socket, far: socket.socket) -> None:
        self.relay = relay
        self.sockets = (near, far)
        for each in self.sockets:
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER_BYTES)
            each.settimeout(_LOOK_S)
        self.over = threading.Event()
        self.pipes = (
            _Pipe(self, Direction.UP, near, far),
            _Pipe(self, Direction.DOWN, far, near),
        )
        self._lock = threading.Lock()
        self._threads_left = 2 * len(self.pipes)

    def reset(self) -> None:
        """Have both sides end with RST as soon as the threads have let go."""
        with self._lock:
            if self.over.is_set() or not self._threads_left:
                return
            self.over.set()
            for each in self.sockets:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RD)  # wakes a reader
        for pipe in self.pipes:
            pipe.wake()

    def leave(self) -> None:
        """Called once by each thread as it ends."""
        with self._lock:
            self._threads_left -= 1
            if self._threads_left:
                return
            for each in self.sockets:
                each.close()
        self.relay.forget(self)


class _Pipe:
    """One direction of one connection: a queue of (due time, bytes); empty bytes mean the end."""

    def __init__(
        self,
        connection: _Connection,
        direction: Direction,
        source: socket.socket,
        sink: socket.socket,
    ) -> None:
        self._connection = connection
        self._over = connection.over
        self._relay = connection.relay
        self._direction = direction
        self._source = source
        self._sink = sink
        self._changed = threading.Condition()
        self._queue: deque[tuple[float, bytes]] = deque()
        self._queued_bytes = 0

    def wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def read(self) -> None:
        """A thread: source → queue, until the source's end."""
        try:
            while self._take(self._receive()):
                pass
        except OSError:
            self._connection.reset()
        finally:
            self._connection.leave()

    def write(self) -> None:
        """A thread: queue → sink, each piece when it is due."""
        try:
            while (item := self._next()) is not None and self._deliver(*item):
                pass
        except OSError:
            self._connection.reset()
        finally:
            self._connection.leave()

    def _receive(self) -> bytes:
        while not self._over.is_set():
            with suppress(TimeoutError):
                return self._source.recv(self._relay.chunk_bytes())
        return b""

    def _take(self, data: bytes) -> bool:
        self._relay.wait_thawed(self._direction, self._over)
        limit_bytes = self._relay.queue_limit_bytes()
        with self._changed:
            while self._queued_bytes > limit_bytes and not self._over.is_set():
                self._changed.wait()
            self._queue.append((time.monotonic() + self._relay.latency_s, data))
            self._queued_bytes += len(data)
            self._changed.notify_all()
        return bool(data)

    def _next(self) -> tuple[float, bytes] | None:
        """The oldest piece, once there is one; None when the connection was reset."""
        with self._changed:
            while not self._queue and not self._over.is_set():
                self._changed.wait()
            if self._over.is_set():
                return None
            due_s, data = self._queue.popleft()
            self._queued_bytes -= len(data)
            self._changed.notify_all()
            return due_s, data

    def _deliver(self, due_s: float, data: bytes) -> bool:
        """Whether there may be more to deliver."""
        due_s = max(due_s, self._relay.reserve(self._direction, len(data)))
        wait_s = due_s - time.monotonic()
        if wait_s > 0 and self._over.wait(wait_s):
            return False
        self._relay.wait_thawed(self._direction, self._over)
        treated, cut = self._relay.treat(self._direction, data)
        self._send(treated)
        if cut:
            self._connection.reset()
        elif not data:
            self._sink.shutdown(socket.SHUT_WR)
        return bool(data) and not cut

    def _send(self, data: bytes) -> None:
        view = memoryview(data)
        while view and not self._over.is_set():
            with suppress(TimeoutError):
                view = view[self._sink.send(view) :]


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    connection.close()
