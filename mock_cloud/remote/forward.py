# SPDX-License-Identifier: GPL-2.0-or-later
"""A port of the node's loopback whose connections end here (RFC 4254, 7.1)."""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

import paramiko

from mock_cloud.remote.link import Link, hold_to_window

AT_ONCE: Final = 48
"""Connections served side by side; others wait. dnf makes up to 20, the agent one a repository."""
WAITING_MAX: Final = 512
WINDOW_BYTES: Final = 64 << 10
"""What each may send ahead: requests are small, and all together must fit into memory."""
TOTAL_MAX: Final = 50_000
_JOIN_S: Final = 5.0


class ForwardedStream:
    """One connection, as a socket would have it: what paramiko raises besides is OSError."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel

    def recv(self, size: int, /) -> bytes:
        with _as_os_error():
            return bytes(self._channel.recv(size))

    def sendall(self, data: bytes, /) -> None:
        with _as_os_error():
            self._channel.sendall(data)

    def settimeout(self, timeout_s: float | None, /) -> None:
        self._channel.settimeout(timeout_s)

    def shutdown(self, how: int, /) -> None:
        with _as_os_error():
            self._channel.shutdown(how)

    def close(self) -> None:
        with _as_os_error():
            self._channel.close()


@contextmanager
def _as_os_error() -> Iterator[None]:
    try:
        yield
    except (paramiko.SSHException, EOFError) as error:
        raise OSError(str(error) or "the connection is gone") from error


class Forward:
    """The port and what comes through it: `serve` is called with each, in a thread of its own.

    The node's sshd listens on 127.0.0.1 at `port`, for every process of the node. `close` is
    idempotent; after it nothing listens any more, if the connection is up. TransportError if the
    sshd forwards nothing.
    """

    def __init__(self, link: Link, serve: Callable[[ForwardedStream], None], port: int = 0) -> None:
        self._link = link
        self._serve = serve
        self._changed = threading.Condition()
        self._waiting: deque[paramiko.Channel] = deque()
        self._active: dict[paramiko.Channel, threading.Thread] = {}
        self._count = 0
        self._closed = False
        self._dispatcher = threading.Thread(target=self._dispatch, name="tunnel", daemon=True)
        self._dispatcher.start()
        try:
            self.port = link.listen(self._take, port)
        except BaseException:
            self._end()
            raise
        link.on_close(self._end)

    def close(self) -> None:
        with self._changed:
            was_closed = self._closed
        if not was_closed:
            self._link.unlisten(self.port)
        self._end()

    def _take(self, channel: paramiko.Channel, _origin: object, _server: object) -> None:
        """By paramiko's own thread, which must never wait, nor send."""
        hold_to_window(self._link, channel, WINDOW_BYTES)
        with self._changed:
            self._count += 1
            self._waiting.append(channel)
            self._changed.notify_all()

    def _dispatch(self) -> None:
        while True:
            with self._changed:
                while not self._closed and not (self._waiting and len(self._active) < AT_ONCE):
                    if self._is_flooded():
                        break
                    self._changed.wait()
                if self._closed:
                    return
                if not self._is_flooded():
                    channel = self._waiting.popleft()
                    name = f"tunnel {self._count}"
                    thread = threading.Thread(
                        target=self._run, args=(channel,), name=name, daemon=True
                    )
                    self._active[channel] = thread
                    thread.start()
                    continue
            self._link.fail("the node opened too many connections through the tunnel")
            return

    def _is_flooded(self) -> bool:
        return len(self._waiting) > WAITING_MAX or self._count > TOTAL_MAX

    def _run(self, channel: paramiko.Channel) -> None:
        try:
            self._serve(ForwardedStream(channel))
        finally:
            self._link.release(channel)
            with self._changed:
                self._active.pop(channel, None)
                self._changed.notify_all()

    def _end(self) -> None:
        with self._changed:
            self._closed = True
            channels = [*self._active, *self._waiting]
            threads = [self._dispatcher, *self._active.values()]
            self._waiting.clear()
            self._changed.notify_all()
        for channel in channels:
            with suppress(OSError, EOFError, paramiko.SSHException):
                channel.shutdown(socket.SHUT_RDWR)
            self._link.release(channel)
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(_JOIN_S)
