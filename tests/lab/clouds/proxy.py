# SPDX-License-Identifier: GPL-2.0-or-later
"""The HTTP server that clients of a lab's cloud talk to, and the record of what they asked.

It stands before moto or mimic; what it changes on the way is decided by the cloud it belongs to.
"""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.lab.clouds.faults import Exchange, Faults, Request, Response

_UPSTREAM_TIMEOUT_S = 60.0
_HOP_HEADERS = frozenset(
    {"connection", "content-length", "date", "host", "keep-alive", "server", "transfer-encoding"}
)
_BODY_MAX = 64 << 20


@dataclass(frozen=True, slots=True)
class Call:
    """One API call as it ended. `status` is the HTTP status; 0 unanswered, -1 reset."""

    operation: str
    status: int
    started_unix: float
    duration_s: float
    is_faulty: bool


class Calls:
    """The calls so far, oldest first. Safe to read while they go on."""

    def __init__(self) -> None:
        self._calls: list[Call] = []

    def __iter__(self) -> Iterator[Call]:
        return iter(tuple(self._calls))

    def __len__(self) -> int:
        return len(self._calls)

    def count(self, operation: str) -> int:
        return sum(call.operation == operation for call in self)

    def operations(self) -> list[str]:
        return [call.operation for call in self]

    def summary(self) -> str:
        """How often each operation was called, in the order of the first calls."""
        counted = Counter(self.operations())
        return ", ".join(
            f"{count}x {name}" if count > 1 else name for name, count in counted.items()
        )

    def clear(self) -> None:
        self._calls.clear()

    def note(self, call: Call) -> None:
        self._calls.append(call)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    timeout = 2.0  # of an idle connection; clients open another

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if length > _BODY_MAX:
            self.close_connection = True
            return
        body = self.rfile.read(length)
        request = Request(self.command, self.path, dict(self.headers.items()), body)
        response = self.server.owner.serve(request)
        if response.status > 0:
            self._send(response)
            return
        self.close_connection = True
        if response.status < 0:
            # Closed with data not acknowledged and no patience, TCP says RST.
            now = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, now)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815

    def _send(self, response: Response) -> None:
        self.send_response(response.status)
        for name, value in response.headers.items():
            if name.lower() not in _HOP_HEADERS:
                self.send_header(name, value)
        if response.status != 204:
            self.send_header("Content-Length", str(len(response.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True
    request_queue_size = 128

    def __init__(self, owner: Proxy) -> None:
        self.owner = owner
        self.connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def process_request(self, request: object, client_address: object) -> None:
        self.connections.add(request)  # type: ignore[arg-type]
        super().process_request(request, client_address)  # type: ignore[arg-type]

    def shutdown_request(self, request: object) -> None:
        """Without the shutdown(2) of the base class, which would send FIN before an RST."""
        self.connections.discard(request)  # type: ignore[arg-type]
        request.close()  # type: ignore[attr-defined]

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients may go away at any moment; that is no news."""


class Proxy:
    """Serves on a free port of 127.0.0.1. A context manager; `faults` are cleared at its end.

    `name` completes a request (operation, parameters); `act` answers it, as if nothing were wrong.
    """

    def __init__(
        self,
        name: Callable[[Request], Request],
        act: Callable[[Request], Response],
    ) -> None:
        self.faults = Faults()
        self.calls = Calls()
        self._name = name
        self._act = act
        self._server = _Server(self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="cloud-api"
        )

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self.faults.clear()
        self._server.shutdown()
        self._thread.join()
        self.disconnect()
        self._server.server_close()

    def disconnect(self) -> None:
        """Close every connection that clients have open."""
        for connection in list(self._server.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def serve(self, request: Request) -> Response:
        """The answer to a request, after whatever fault it meets."""
        request = self._name(request)
        started_unix, started_s = time.time(), time.monotonic()
        armed = self.faults.take(request)
        if armed is None:
            response = self._act(request)
        else:
            response = armed.fault(Exchange(request, lambda: self._act(request), armed.lifted))
        duration_s = time.monotonic() - started_s
        faulty = armed is not None
        self.calls.note(Call(request.operation, response.status, started_unix, duration_s, faulty))
        return response


def ask_upstream(port: int, request: Request) -> Response:
    """The answer of the server on `port` of this machine. OSError, http.client.HTTPException."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_UPSTREAM_TIMEOUT_S)
    try:
        headers = {
            name: value
            for name, value in request.headers.items()
            if name.lower() not in _HOP_HEADERS - {"host"} and name.lower() != "accept-encoding"
        }
        connection.request(request.method, request.path, request.body, headers)
        answer = connection.getresponse()
        return Response(answer.status, answer.read(), dict(answer.getheaders()))
    finally:
        connection.close()
