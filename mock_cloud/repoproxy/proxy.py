# SPDX-License-Identifier: GPL-2.0-or-later
"""The proxy that a node's dnf is given: a door that is closed but for what a list allows.

It knows GET and HEAD of http URLs, CONNECT for https, this machine's directories under
`allow.FILES_HOST`, mirror lists under `allow.LISTS_HOST`, and repositories that this machine
fetches (`repository`). Other redirects go to the client, whose next request is judged again.
"""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from mock_cloud.repoproxy.allow import AllowedPlace, AllowList, LocalFile, plain_host
from mock_cloud.repoproxy.files import send_file
from mock_cloud.repoproxy.http1 import BadRequest, Client, ProxyRequest, Stream
from mock_cloud.repoproxy.metadata import ListedFile, Unfetched
from mock_cloud.repoproxy.repository import ServedRepository, place_of
from mock_cloud.repoproxy.upstream import (
    Dialer,
    Upstreams,
    UpstreamServer,
    proxy_problem,
    reason_of,
)
from mock_cloud.wire.job_request import REASONS_URL

_REASONS_MAX: Final = 20
_REASON_MAX: Final = 500
_BLOCK_BYTES: Final = 256 << 10
_TICK_S: Final = 30.0
_SILENCE_S: Final = 120.0
"""How long a TLS connection through us may be silent in both directions."""

# What is passed on; all else ends here, above all what names this machine or its user.
_REQUEST_HEADERS: Final = (
    "range", "if-range", "if-modified-since", "if-none-match", "accept", "accept-encoding",
    "cache-control", "pragma", "user-agent", "authorization",
)  # fmt: skip
_ANSWER_HEADERS: Final = (
    "content-type", "content-encoding", "content-range", "accept-ranges", "last-modified", "etag",
    "date", "location", "cache-control", "expires", "retry-after", "www-authenticate",
)  # fmt: skip


class RepoProxy:
    """Serves connections, each in a thread of its caller's. `warn` gets a line a refusal."""

    def __init__(
        self,
        allowed: AllowList,
        warn: Callable[[str], None],
        *,
        idle_s: float = 60.0,
        head_s: float = 20.0,
        send_s: float = 60.0,
    ) -> None:
        self._allowed = allowed
        self._warn = warn
        self._reasons: list[str] = []
        self._times = {"idle_s": idle_s, "head_s": head_s, "send_s": send_s}
        self._dialer = Dialer()

    def serve(self, stream: Stream) -> None:
        """Answer what comes over `stream` until it ends, then close it. Raises nothing."""
        client = Client(stream, **self._times)
        try:
            with Upstreams(self._dialer) as upstreams:
                while self._serve_one(client, upstreams):
                    pass
        except BadRequest as bad:
            with suppress(OSError):
                client.answer(bad.status, str(bad), close=True)
        except OSError:
            pass  # the client went away, or was too slow
        finally:
            with suppress(OSError, EOFError):
                stream.close()

    def close(self) -> None:
        """End the connections to servers, and with them whoever waits for one. Idempotent."""
        self._dialer.close()

    def _serve_one(self, client: Client, upstreams: Upstreams) -> bool:
        """Whether the client may ask again."""
        request = client.read_request()
        if request is None:
            return False
        if request.method == "CONNECT":
            self._tunnel(client, upstreams, request)
            return False
        if request.method not in ("GET", "HEAD"):
            raise BadRequest(HTTPStatus.METHOD_NOT_ALLOWED, "only GET, HEAD and CONNECT")
        return self._answer(client, upstreams, request) and request.keeps_alive

    def _answer(self, client: Client, upstreams: Upstreams, request: ProxyRequest) -> bool:
        """Answer GET or HEAD. Whether the client's connection is still good."""
        found = self._allowed.find(request.target)
        if request.target == REASONS_URL:
            found = "".join(f"{line}\n" for line in self._reasons).encode()
        if isinstance(found, AllowedPlace):
            return self._fetch(client, upstreams, request, found)
        if isinstance(found, ServedRepository):
            return self._serve_repository(client, upstreams, request, found)
        if found is None:
            return self._serve_elsewhere(client, upstreams, request)
        if isinstance(found, LocalFile):
            send_file(client, request, found)
        else:
            client.start(HTTPStatus.OK, {"Content-Type": "text/plain"}, len(found))
            if request.method == "GET":
                client.send(found)
        return True

    def _refuse(self, client: Client, url: str, *, body: bool = True) -> None:
        self._say(f"the node asked for what no enabled repository has, and was refused: {url}")
        client.answer(HTTPStatus.FORBIDDEN, "not a repository of this build", body=body)

    def _fail(self, client: Client, url: str, error: Exception, *, body: bool = True) -> None:
        why = reason_of(error) or type(error).__name__
        self._say(f"this machine cannot fetch {url}: {why}")
        client.answer(HTTPStatus.BAD_GATEWAY, f"the controller cannot fetch it: {why}", body=body)

    def _say(self, text: str) -> None:
        if len(self._reasons) < _REASONS_MAX and text not in self._reasons:
            self._reasons.append(text[:_REASON_MAX])
        self._warn(text)

    def _serve_elsewhere(self, client: Client, upstreams: Upstreams, request: ProxyRequest) -> bool:
        """Send what a repository's metadata has at another place, or refuse it."""
        place = place_of(request.target)
        for repository in self._allowed.repositories if place else ():
            with suppress(Unfetched):  # then it is not known to have this
                listed = repository.find(place, upstreams)
                if listed is not None:
                    return self._serve_repository(client, upstreams, request, repository, listed)
        self._refuse(client, request.target, body=request.method == "GET")
        return True

    def _serve_repository(
        self, client: Client, upstreams: Upstreams, request: ProxyRequest,
        repository: ServedRepository, listed: ListedFile | None = None,
    ) -> bool:  # fmt: skip
        """Whether the client's connection is still good."""
        try:
            if listed is None:
                repository.answer(client, request, upstreams)
            else:
                repository.send(client, request, listed, upstreams)
        except Unfetched as error:
            name = repository.access.id
            where = urlsplit(request.target).path.lstrip("/")
            self._say(f"repository {name!r}: {where}: {error}")
            if error.cut:
                return False
            client.answer(HTTPStatus(error.status), str(error), body=request.method == "GET")
        return True

    def _fetch(
        self, client: Client, upstreams: Upstreams, request: ProxyRequest, place: AllowedPlace
    ) -> bool:
        """Pass a server's answer on. Whether the client's connection is still good."""
        parts = urlsplit(request.target)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = {
            name: request.headers[name] for name in _REQUEST_HEADERS if name in request.headers
        }
        body = request.method == "GET"
        try:
            server = UpstreamServer(place.host, place.port, place.scope, place.proxy)
            answer = upstreams.ask(server, request.method, target, headers)
            if place.proxy is not None and answer.status == 407:
                raise OSError(proxy_problem(place.proxy, answer.status, place.host))
        except (OSError, http.client.HTTPException) as error:
            upstreams.close()
            self._fail(client, request.target, error, body=body)
            return True
        size = answer.length if body else _announced(answer)
        client.start(answer.status, _passed_on(answer), size)
        if not body:
            return size is not None
        left = size
        try:
            while data := answer.read1(_BLOCK_BYTES):
                client.send(data)
                left = None if left is None else left - len(data)
        except http.client.HTTPException:
            return False  # the client sees that it is cut
        return left == 0

    def _find_end(self, host: str, port: int, upstreams: Upstreams) -> UpstreamServer | None:
        end = self._allowed.find_end(host, port)
        if end is not None:
            return UpstreamServer(end.host, end.port, end.scope, end.proxy)
        for repository in self._allowed.repositories:
            with suppress(Unfetched):
                found = repository.find_end(plain_host(host), port, upstreams)
                if found is not None:
                    return found
        return None

    def _tunnel(self, client: Client, upstreams: Upstreams, request: ProxyRequest) -> None:
        host, _, port = request.target.rpartition(":")
        number = int(port) if port.isascii() and port.isdecimal() and len(port) <= 5 else 0
        end = self._find_end(host.strip("[]"), number, upstreams)
        if end is None:
            self._refuse(client, f"https://{request.target}")
            return
        try:
            server = self._dialer.dial(end)
        except OSError as error:
            self._fail(client, f"https://{request.target}", error)
            return
        try:
            client.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
            server.sendall(client.take_held())
            _relay(client.stream, server)
        finally:
            self._dialer.drop(server)


def _announced(answer: http.client.HTTPResponse) -> int | None:
    """The size that an answer to HEAD names."""
    size = answer.getheader("content-length", "")
    return int(size) if size.isascii() and size.isdecimal() else None


def _passed_on(answer: http.client.HTTPResponse) -> dict[str, str]:
    found = {}
    for name in _ANSWER_HEADERS:
        value = answer.getheader(name)
        if value is not None and value.isprintable() and len(value) < 8192:
            found[name] = value.encode("ascii", "replace").decode()
    return found


def _relay(client: Stream, server: socket.socket) -> None:
    """Bytes both ways until both sides have ended, one breaks, or neither says anything."""
    heard_at = [time.monotonic()]
    client.settimeout(_TICK_S)
    server.settimeout(_TICK_S)

    def pump(source: Stream, sink: Stream) -> None:
        try:
            while True:
                try:
                    data = source.recv(_BLOCK_BYTES)
                except TimeoutError:
                    if time.monotonic() - heard_at[0] > _SILENCE_S:
                        break
                    continue
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                heard_at[0] = time.monotonic()
                sink.sendall(data)
        except (OSError, EOFError):
            pass
        for one in (source, sink):  # wakes the other direction
            with suppress(OSError, EOFError):
                one.shutdown(socket.SHUT_RDWR)

    up = threading.Thread(target=pump, args=(client, server), name="tunnel", daemon=True)
    up.start()
    pump(server, client)
    up.join()
