# SPDX-License-Identifier: GPL-2.0-or-later
"""The TCP socket under an SSH connection: fewer system calls, and when the peer last spoke."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from typing import Final

from mock_cloud.wire.dial import dial

_READ_BYTES: Final = 1 << 18
_SHORT_BYTES: Final = 4096
_PACKET_MAX: Final = 1 << 18
"""OpenSSH's own bound (PACKET_MAX_SIZE of packet.c); paramiko reads as much as it is told to."""
_SMALL_BYTES: Final = 1220
"""TCP's share of the 1280 bytes that each path must carry (RFC 8200, 5), less its headers."""

_RESET: Final = struct.pack("ii", 1, 0)
"""struct linger of socket(7)."""

_silent: set[tuple[str, int]] = set()
"""Where large packets may be lost without a word: who is there was reached, and fell silent."""


class Wire:
    """What paramiko takes for a socket.

    paramiko reads each SSH packet in two pieces; with a buffer here most of these reads
    cost no system call. Only paramiko's own thread calls `recv`.
    """

    def __init__(self, sock: socket.socket, peer: tuple[str, int] | None = None) -> None:
        self._sock = sock
        self._peer = peer
        self._is_tcp = peer is not None
        self._buffer = b""
        self._start = 0
        self._closed = False  # paramiko's Transport.stop_thread reads this name
        self.heard_at = time.monotonic()
        """When bytes last came in, of the monotonic clock."""

    def recv(self, size: int) -> bytes:
        if size > _PACKET_MAX + 1024:
            raise ConnectionError(f"a packet of {size} bytes")
        left = len(self._buffer) - self._start
        if left == 0:
            self._buffer = self._sock.recv(_READ_BYTES)
            self._start = 0
            self.heard_at = time.monotonic()
            left = len(self._buffer)
            if self._is_tcp and left < _SHORT_BYTES:
                # sshd holds the second of two short packets back until the first is
                # acknowledged (Nagle), which Linux does 40 ms later unless told so: tcp(7).
                self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        end = self._start + min(size, left)
        piece = self._buffer[self._start : end]
        self._start = end
        return piece

    def send(self, data: bytes) -> int:
        return self._sock.send(data)

    def settimeout(self, timeout_s: float | None) -> None:
        self._sock.settimeout(timeout_s)

    def getpeername(self) -> object:
        return self._sock.getpeername()

    def note_silence(self) -> bool:
        """Have later connections there send and ask for small packets. False: this one did.

        Closed after this, it is reset: what says that it ends would wait behind what does not
        arrive, and the peer's session for ever.
        """
        if self._peer is None:
            return False
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        is_new = self._peer not in _silent
        _silent.add(self._peer)
        return is_new

    def said(self) -> str:
        """What whoever carries the connection says about it; nobody but the kernel does here."""
        return ""

    def close(self) -> None:
        """Wake whoever waits on the socket, then close it. Idempotent."""
        if not self._closed:
            self._closed = True
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)
            self._sock.close()


def open_wire(host: str, port: int, timeout_s: float) -> Wire:
    """Connect by TCP, over IPv4 or IPv6. OSError.

    A path that drops large packets and says nothing of it looks like a peer that fell silent: where
    one did, both ends are held to packets that each path must carry.
    """
    peer = (host, port)
    sock = dial(host, port, timeout_s, _keep_small if peer in _silent else _leave_as_it_is)
    sock.settimeout(timeout_s)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Wire(sock, peer)


def _keep_small(sock: socket.socket) -> None:
    """Before it connects, which tells the peer as well: tcp(7)."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SMALL_BYTES)


def _leave_as_it_is(_: socket.socket) -> None:
    pass
