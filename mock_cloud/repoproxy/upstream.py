# SPDX-License-Identifier: GPL-2.0-or-later
"""Connections from this machine to the servers of repositories."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import threading
from contextlib import suppress
from typing import Final

from mock_cloud.repoproxy.allow import AllowedPlace, End

_CONNECT_S: Final = 15.0
READ_S: Final = 30.0


class Dialer:
    """Makes connections and remembers those that are open, so that `close` ends all at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._closed = False

    def dial(self, end: End | AllowedPlace) -> socket.socket:
        """A TCP connection. OSError, also if only private addresses are there for a public name."""
        found = socket.getaddrinfo(end.host, end.port, type=socket.SOCK_STREAM)
        problem = OSError("it has no public address")
        for family, kind, protocol, _, address in found:
            if end.public_only and not is_public(str(address[0])):
                continue
            sock = socket.socket(family, kind, protocol)
            try:
                self._keep(sock)
                sock.settimeout(_CONNECT_S)
                sock.connect(address)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError as error:
                self.drop(sock)
                problem = error
            else:
                sock.settimeout(READ_S)
                return sock
        raise problem

    def drop(self, sock: socket.socket) -> None:
        """Close one connection. Idempotent."""
        with self._lock:
            self._open.discard(sock)
        sock.close()

    def close(self) -> None:
        """End all connections, now and later. Idempotent."""
        with self._lock:
            self._closed = True
            left = tuple(self._open)
        for sock in left:  # whoever uses it wakes up and drops it
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _keep(self, sock: socket.socket) -> None:
        with self._lock:
            if self._closed:
                raise OSError("the tunnel is closed")
            self._open.add(sock)


def is_public(address: str) -> bool:
    """Whether an IP address is one of the internet's (IANA's registries of special ones)."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped:
        found = found.ipv4_mapped
    return found.is_global and not found.is_multicast


class Upstreams:
    """The servers that one client talks to; the connection to the last one is used again."""

    def __init__(self, dialer: Dialer) -> None:
        self._dialer = dialer
        self._place: tuple[str, int, bool] | None = None
        self._connection: http.client.HTTPConnection | None = None
        self._sock: socket.socket | None = None

    def __enter__(self) -> Upstreams:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(
        self, place: AllowedPlace, method: str, target: str, headers: dict[str, str]
    ) -> http.client.HTTPResponse:
        """An answer whose body is still to be read. OSError, http.client.HTTPException."""
        is_old = self._place == (place.host, place.port, place.public_only)
        if is_old and self._connection is not None and self._connection.sock is not None:
            try:
                return self._ask(self._connection, method, target, headers)
            except (OSError, http.client.HTTPException):
                pass  # it was idle for too long: once more, on a new one
        return self._ask(self._connect(place), method, target, headers)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        sock, self._sock = self._sock, None
        if connection is not None:
            connection.close()
        if sock is not None:
            self._dialer.drop(sock)

    def _connect(self, place: AllowedPlace) -> http.client.HTTPConnection:
        self.close()
        connection = http.client.HTTPConnection(place.host, place.port)
        connection.auto_open = 0
        connection.sock = self._sock = self._dialer.dial(place)
        self._connection = connection
        self._place = (place.host, place.port, place.public_only)
        return connection

    def _ask(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        target: str,
        headers: dict[str, str],
    ) -> http.client.HTTPResponse:
        connection.putrequest(method, target, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        return connection.getresponse()
