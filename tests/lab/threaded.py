# SPDX-License-Identifier: GPL-2.0-or-later
"""A server with a thread a connection, of which nothing is left at the end."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self


class ThreadedServer:
    """Serves what comes to a listening socket; a context manager. `serve` is the subclass's.

    Leaving the block shuts the sockets down that `keep` was told of, and joins all threads.
    """

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self.lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    def serve(self, client: socket.socket, address: Any) -> None:
        """Answer one client, in a thread of its own. Its socket is closed afterwards."""
        raise NotImplementedError

    def keep(self, sock: socket.socket) -> None:
        """`sock` is in use by now: what waits on it wakes up when the server ends."""
        with self.lock:
            self._open.add(sock)

    def drop(self, *socks: socket.socket) -> None:
        """Close them: they are in use no more."""
        with self.lock:
            self._open.difference_update(socks)
        for one in socks:
            one.close()

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        with self.lock:
            left = list(self._open)
        for one in left:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        while self._threads:
            self._threads.pop().join()

    def _start(self, work: Callable[..., None], *words: Any) -> None:
        thread = threading.Thread(target=work, args=words)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, address = self.listener.accept()
            except OSError:
                return
            self.keep(client)
            self._start(self._serve, client, address)

    def _serve(self, client: socket.socket, address: Any) -> None:
        try:
            with suppress(OSError):  # one of them went away
                self.serve(client, address)
        finally:
            self.drop(client)
