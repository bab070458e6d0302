# SPDX-License-Identifier: GPL-2.0-or-later
"""A static HTTP/1.1 server that notes every request and can be told to misbehave."""

from __future__ import annotations

import base64
import os
import re
import socket
import ssl
import threading
import urllib.parse
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.utils import formatdate
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO, cast

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")  # RFC 9110, 14.1.2: one range, from a start
_REMEMBERED = 100_000


class Fault(Enum):
    """How a request can go wrong."""

    NOT_FOUND = "404"
    SERVER_ERROR = "500"
    TRUNCATED = "half of the body, then the connection closes"
    HANG = "no answer until the fault is lifted"


@dataclass(frozen=True, slots=True)
class Access:
    """One request as it was answered. `sent_bytes` counts the body, `start` is its offset.

    `authorization` is the header's value.
    """

    method: str
    path: str
    status: int
    sent_bytes: int
    start: int = 0
    authorization: str = ""


@dataclass(slots=True)
class _ArmedFault:
    prefix: str
    kind: Fault
    left: int | None
    lifted: threading.Event


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], owner: FileServer) -> None:
        self.owner = owner
        self.connections: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def get_request(self) -> tuple[socket.socket, object]:
        connection, address = super().get_request()
        if self.owner.context is not None:  # the handshake is the thread's that serves it
            connection = self.owner.context.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        return connection, address

    def finish_request(self, request: object, client_address: object) -> None:
        if isinstance(request, ssl.SSLSocket):
            try:
                request.settimeout(_Handler.timeout)
                request.do_handshake()
            except OSError:  # what comes unread would have the alert lost on its way
                request.shutdown(socket.SHUT_WR)
                while os.read(request.fileno(), 1 << 16):
                    pass
                raise
        super().finish_request(request, client_address)  # type: ignore[arg-type]

    def process_request(self, request: object, client_address: object) -> None:
        self.connections.add(cast(socket.socket, request))
        super().process_request(request, client_address)  # type: ignore[arg-type]

    def shutdown_request(self, request: object) -> None:
        self.connections.discard(cast(socket.socket, request))
        super().shutdown_request(request)  # type: ignore[arg-type]

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients may go away at any moment; that is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    timeout = 600.0
    wbufsize = 1 << 16

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        owner = self.server.owner
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        wanted = owner.login and "Basic " + base64.b64encode(owner.login.encode()).decode()
        if wanted and self.headers.get("Authorization") != wanted:
            self._refuse(path, 401)
            return
        if owner.redirects.get(path):
            self._refuse(path, 302, owner.redirects[path])
            return
        fault = owner.take_fault(path)
        if fault is not None and fault.kind is Fault.HANG:
            fault.lifted.wait()
            self.close_connection = True
            owner.note(Access(self.command, path, 0, 0))
            return
        place = None if fault and fault.kind is Fault.NOT_FOUND else owner.find(path)
        if fault is not None and fault.kind is Fault.SERVER_ERROR:
            self._refuse(path, 500)
        elif place is None:
            self._refuse(path, 404)
        else:
            with place.open("rb") as stream:
                self._send(path, place, stream, body, fault is not None)

    def _refuse(self, path: str, status: int, location: str = "") -> None:
        text = f"{status}\n".encode()
        said = self.headers.get("Authorization", "")
        self.server.owner.note(Access(self.command, path, status, 0, authorization=said))
        self.send_response(status)
        if location:
            self.send_header("Location", location)
        if status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="lab"')
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def _send(self, path: str, place: Path, stream: BinaryIO, body: bool, truncated: bool) -> None:
        facts = place.stat()
        start, end, status = 0, facts.st_size, 200
        wanted = _RANGE.fullmatch(self.headers.get("Range", ""))
        if wanted and int(wanted[1]) < facts.st_size:
            start, status = int(wanted[1]), 206
            end = min(int(wanted[2]) + 1, end) if wanted[2] else end
        self.send_response(status)
        self.send_header("Content-Length", str(end - start))
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Last-Modified", formatdate(facts.st_mtime, usegmt=True))
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{facts.st_size}")
        self.end_headers()
        length = (end - start) // (2 if truncated else 1) if body else 0
        # Noted before the last byte leaves: a test may look as soon as its client is done.
        said = self.headers.get("Authorization", "")
        self.server.owner.note(Access(self.command, path, status, length, start, said))
        stream.seek(start)
        self.wfile.flush()
        while length > 0:
            sent = self.connection.sendfile(stream, stream.tell(), length)
            if not sent:
                break
            length -= sent
        if truncated:
            self.close_connection = True


class FileServer:
    """Serves directories below URL prefixes from `host`, as a context manager.

    `mounts` maps a prefix such as ``/dist`` to a directory. `port` 0 takes a free one. Leaving
    the block closes every connection and joins every thread. With a `context` it speaks TLS, with a
    `login` (``user:password``) it answers nobody else. `redirects` are by path.
    """

    def __init__(
        self, mounts: Mapping[str, Path], *, port: int = 0, host: str = "127.0.0.1",
        context: ssl.SSLContext | None = None, login: str = "",
    ) -> None:  # fmt: skip
        self._host = host
        self.context = context
        self.login = login
        self.redirects: dict[str, str] = {}
        self._mounts = {prefix.rstrip("/"): place.absolute() for prefix, place in mounts.items()}
        self._lock = threading.Lock()
        self._accesses: deque[Access] = deque(maxlen=_REMEMBERED)
        self._faults: list[_ArmedFault] = []
        self._server = _Server((host, port), self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="lab-http"
        )

    def __enter__(self) -> FileServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            for fault in self._faults:
                fault.lifted.set()
        self._server.shutdown()
        self._thread.join()
        for connection in list(self._server.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._server.server_close()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http{'s' if self.context else ''}://{self._host}:{self.port}"

    def accesses(self, prefix: str = "/") -> tuple[Access, ...]:
        """Requests so far, oldest first, whose path starts with `prefix`."""
        with self._lock:
            return tuple(access for access in self._accesses if access.path.startswith(prefix))

    def forget_accesses(self) -> None:
        with self._lock:
            self._accesses.clear()

    @contextmanager
    def fault(self, prefix: str, kind: Fault, *, times: int | None = None) -> Iterator[None]:
        """Within the block requests below `prefix` fail; only the first `times` if given."""
        armed = _ArmedFault(prefix, kind, times, threading.Event())
        with self._lock:
            self._faults.append(armed)
        try:
            yield
        finally:
            with self._lock:
                self._faults.remove(armed)
            armed.lifted.set()

    def take_fault(self, path: str) -> _ArmedFault | None:
        with self._lock:
            for fault in self._faults:
                if path.startswith(fault.prefix) and fault.left != 0:
                    if fault.left is not None:
                        fault.left -= 1
                    return fault
        return None

    def note(self, access: Access) -> None:
        with self._lock:
            self._accesses.append(access)

    def find(self, path: str) -> Path | None:
        """The regular file that a URL path names, or None; nothing outside the mounts."""
        for prefix, root in self._mounts.items():
            if path.startswith(prefix + "/"):
                place = (root / path[len(prefix) :].lstrip("/")).resolve()
                if place.is_relative_to(root.resolve()) and place.is_file():
                    return place
        return None
