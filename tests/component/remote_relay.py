# SPDX-License-Identifier: GPL-2.0-or-later
"""A TCP relay with a round trip time, which can freeze, cut and count."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from types import TracebackType

_READ_BYTES = 1 << 18
_HELD_MAX_BYTES = 64 << 20


class Relay:
    """Forwards connections to 127.0.0.1:`target_port`; each direction takes half of `rtt_s`."""

    def __init__(self, target_port: int, *, rtt_s: float = 0.0) -> None:
        self._target_port = target_port
        self._delay_s = rtt_s / 2
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.bytes_up = 0
        self._flowing = threading.Event()
        self._flowing.set()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._run(self._accept)

    def freeze(self) -> None:
        """Keep connections open and pass nothing on."""
        self._flowing.clear()

    def thaw(self) -> None:
        self._flowing.set()

    def cut(self) -> None:
        """Reset all connections; new ones are let through."""
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Relay:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._flowing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join()
        for sock in self._sockets:
            sock.close()

    def _run(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self._target_port))
            except OSError:
                near.close()
                continue
            for sock in (near, far):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._sockets.append(sock)
            _Direction(self, near, far, up=True)
            _Direction(self, far, near, up=False)


class _Direction:
    def __init__(
        self, relay: Relay, source: socket.socket, sink: socket.socket, *, up: bool
    ) -> None:
        self._relay, self._source, self._sink, self._up = relay, source, sink, up
        self._held: deque[tuple[float, bytes]] = deque()
        self._held_bytes = 0
        self._changed = threading.Condition()
        relay._run(self._receive)
        relay._run(self._forward)

    def _receive(self) -> None:
        data = b"first"
        while data:
            self._relay._flowing.wait()
            try:
                data = self._source.recv(_READ_BYTES)
            except OSError:
                data = b""
            if self._up:
                self._relay.bytes_up += len(data)
            with self._changed:
                while self._held_bytes > _HELD_MAX_BYTES:
                    self._changed.wait()
                self._held.append((time.monotonic() + self._relay._delay_s, data))
                self._held_bytes += len(data)
                self._changed.notify_all()

    def _forward(self) -> None:
        while True:
            with self._changed:
                while not self._held:
                    self._changed.wait()
                due, data = self._held.popleft()
                self._held_bytes -= len(data)
                self._changed.notify_all()
            pause_s = due - time.monotonic()
            if pause_s > 0:
                time.sleep(pause_s)
            self._relay._flowing.wait()
            try:
                if data:
                    self._sink.sendall(data)
                else:
                    self._sink.shutdown(socket.SHUT_WR)
            except OSError:
                data = b""
            if not data:
                with contextlib.suppress(OSError):
                    self._source.shutdown(socket.SHUT_RD)
                with self._changed:
                    self._held_bytes = -(1 << 62)  # whoever still receives may go on
                    self._changed.notify_all()
                return


@contextlib.contextmanager
def relay_process(target_port: int, rtt_s: float) -> Iterator[int]:
    """A relay in a process of its own, so that it takes no time of ours; yields its port."""
    command = [sys.executable, "-m", __name__, str(target_port), str(rtt_s)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        yield int(child.stdout.readline())
    finally:
        child.communicate()  # it ends when its stdin does


if __name__ == "__main__":
    with Relay(int(sys.argv[1]), rtt_s=float(sys.argv[2])) as served:
        print(served.port, flush=True)
        sys.stdin.read()
