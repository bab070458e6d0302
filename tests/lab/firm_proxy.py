# SPDX-License-Identifier: GPL-2.0-or-later
"""A firm's proxy: it asks for a password, looks into TLS, and keeps a log.

It alone knows the names of the internet. What it does not know it refuses.
"""

from __future__ import annotations

import base64
import re
import select
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

from tests.lab.threaded import ThreadedServer
from tests.lab.tls import Authority

_TIMEOUT_S = 120.0
_BLOCK_BYTES = 256 << 10
_REQUEST = re.compile(rb"(GET|HEAD|POST|PUT) (\S+) HTTP/1\.1\r\n")


@dataclass(frozen=True, slots=True)
class Site:
    """Where a name leads. `looked_into`: its TLS ends at the proxy; `target` may be plain then."""

    target: tuple[str, int]
    looked_into: bool = False
    context: ssl.SSLContext | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as the proxy saw it; `read` are the requests in what it looked into."""

    who: str
    line: str
    status: int
    read: list[bytes]


class FirmProxy(ThreadedServer):
    """Serves at `host` and `port`; a context manager. `sites` are by ``name:port``."""

    def __init__(
        self, host: str, login: str, authority: Authority, sites: Mapping[str, Site]
    ) -> None:
        self.sites = dict(sites)
        self.seen: list[Seen] = []
        self._wanted = "Basic " + base64.b64encode(login.encode()).decode()
        self._authority = authority
        self._contexts: dict[str, ssl.SSLContext] = {}
        super().__init__(socket.create_server((host, 0), backlog=64))
        self.address = f"{host}:{self.listener.getsockname()[1]}"

    def serve(self, client: socket.socket, address: tuple[str, int]) -> None:
        opened: list[socket.socket] = []
        try:
            client.settimeout(_TIMEOUT_S)
            head = b""
            while b"\r\n\r\n" not in head:
                if not (data := client.recv(1 << 14)):
                    return
                head += data
            self._answer(client, address[0], head, opened)
        finally:
            self.drop(*opened)

    def _answer(
        self, client: socket.socket, who: str, head: bytes, opened: list[socket.socket]
    ) -> None:
        lines = head.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ", 2)
        known = f"Proxy-Authorization: {self._wanted}" in lines
        site = self.sites.get(target) if method == "CONNECT" else None
        status = 407 if not known else 403 if site is None else 200
        seen = Seen(who, lines[0], status, [])
        self.seen.append(seen)
        if site is None or not known:
            more = 'Proxy-Authenticate: Basic realm="firm"\r\n' if status == 407 else ""
            answer = f"HTTP/1.1 {status} No\r\n{more}Content-Length: 0\r\nConnection: close\r\n\r\n"
            client.sendall(answer.encode())
            return
        server = socket.create_connection(site.target, _TIMEOUT_S)
        opened.append(server)
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        if site.looked_into:
            name = target.rpartition(":")[0]
            client = self._context(name).wrap_socket(client, server_side=True)
            opened.append(client)
            if site.context is not None:
                server = site.context.wrap_socket(server, server_hostname=name)
                opened.append(server)
        self.keep(client)
        self.keep(server)
        _relay(client, server, seen.read if site.looked_into else None)

    def _context(self, name: str) -> ssl.SSLContext:
        with self.lock:
            if name not in self._contexts:
                self._contexts[name] = self._authority.server(name)
            return self._contexts[name]


def _relay(client: socket.socket, server: socket.socket, read: list[bytes] | None) -> None:
    """Bytes both ways until one side ends, in one thread: OpenSSL takes no two at once."""
    other = {client: server, server: client}
    while True:
        ready = [one for one in other if isinstance(one, ssl.SSLSocket) and one.pending()]
        ready = ready or select.select(list(other), [], [], _TIMEOUT_S)[0]
        for source in ready:
            data = source.recv(_BLOCK_BYTES)
            if not data:
                return
            if source is client and read is not None:
                read.append(data)
            other[source].sendall(data)
        if not ready:
            return


def requests(seen: Seen) -> list[str]:
    """The request lines in what the proxy looked into."""
    text = b"".join(seen.read)
    return [f"{found[1].decode()} {found[2].decode()}" for found in _REQUEST.finditer(text)]
