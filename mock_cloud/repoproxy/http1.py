# SPDX-License-Identifier: GPL-2.0-or-later
"""HTTP/1.1 as a client of the proxy speaks it: heads in, answers out, bounded and strict."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, Protocol

from mock_cloud.wire.dataclass import dataclass

HEAD_MAX_BYTES: Final = 16 << 10
HEADERS_MAX: Final = 64
_RECEIVE_BYTES: Final = 64 << 10

# RFC 9112, 3 and 5; RFC 9110, 5.6.2. No folded lines, no bare CR or LF, no space before a colon.
_REQUEST_LINE: Final = re.compile(r"([A-Z]{1,16}) ([!-~]{1,8192}) HTTP/1\.([01])")
_HEADER: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}):[ \t]*([ -~\t]*?)[ \t]*")


class Stream(Protocol):
    """What a connection's bytes come and go through: a socket, or one of paramiko's channels."""

    def recv(self, size: int, /) -> bytes: ...
    def sendall(self, data: bytes, /) -> object: ...
    def settimeout(self, timeout_s: float | None, /) -> None: ...
    def shutdown(self, how: int, /) -> None: ...
    def close(self) -> None: ...


class BadRequest(Exception):
    """What came is no request that is answered; `status` says why."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True, slots=True)
class ProxyRequest:
    """One request's head. Names of `headers` are in lower case, each is there once."""

    method: str
    target: str
    headers: Mapping[str, str]
    keeps_alive: bool


class Client:
    """Who asks. Every wait for it ends: `idle_s` for a request to begin, `head_s` for all of it."""

    def __init__(self, stream: Stream, *, idle_s: float, head_s: float, send_s: float) -> None:
        self.stream = stream
        self._idle_s, self._head_s, self._send_s = idle_s, head_s, send_s
        self._held = b""

    def read_request(self) -> ProxyRequest | None:
        """The next request; None if there is none any more. BadRequest; OSError."""
        head = self._read_head()
        return None if head is None else parse_head(head)

    def take_held(self) -> bytes:
        """What came after the last request's head."""
        held, self._held = self._held, b""
        return held

    def start(
        self, status: int, headers: Mapping[str, str], size: int | None, *, close: bool = False
    ) -> None:
        """An answer's head. Without a `size` the connection's end is the body's end."""
        lines = [f"HTTP/1.1 {status} {_phrase(status)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if size is not None:
            lines.append(f"Content-Length: {size}")
        if close or size is None:
            lines.append("Connection: close")
        self.send(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    def answer(
        self, status: HTTPStatus, text: str, *, body: bool = True, close: bool = False
    ) -> None:
        """A short answer of our own."""
        data = f"{text}\n".encode()
        self.start(status, {"Content-Type": "text/plain"}, len(data), close=close)
        if body:
            self.send(data)

    def send(self, data: bytes) -> None:
        self.stream.settimeout(self._send_s)
        self.stream.sendall(data)

    def _read_head(self) -> bytes | None:
        deadline = time.monotonic() + self._idle_s
        began = False
        while (end := self._held.find(b"\r\n\r\n")) < 0:
            if len(self._held) > HEAD_MAX_BYTES:
                raise BadRequest(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the head is too long")
            if self._held and not began:
                began, deadline = True, time.monotonic() + self._head_s
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError("the request did not come in time")
            self.stream.settimeout(left_s)
            data = self.stream.recv(_RECEIVE_BYTES)
            if not data:
                return None
            self._held += data
        if end > HEAD_MAX_BYTES:
            raise BadRequest(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the head is too long")
        head, self._held = self._held[:end], self._held[end + 4 :]
        return head


def parse_head(head: bytes) -> ProxyRequest:
    """A request's head without its last empty line. BadRequest."""
    first, *lines = head.decode("latin-1").split("\r\n")
    found = _REQUEST_LINE.fullmatch(first)
    if found is None:
        raise BadRequest(HTTPStatus.BAD_REQUEST, "no request line of HTTP/1")
    if len(lines) > HEADERS_MAX:
        raise BadRequest(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "too many headers")
    headers: dict[str, str] = {}
    for line in lines:
        header = _HEADER.fullmatch(line)
        if header is None or header[1].lower() in headers:
            raise BadRequest(HTTPStatus.BAD_REQUEST, "a header is malformed or there twice")
        headers[header[1].lower()] = header[2]
    if "transfer-encoding" in headers or headers.get("content-length", "0") != "0":
        raise BadRequest(HTTPStatus.BAD_REQUEST, "a request has no body here")
    words = {
        word.strip().lower()
        for name in ("connection", "proxy-connection")
        for word in headers.get(name, "").split(",")
    }
    keeps_alive = "close" not in words and (found[3] == "1" or "keep-alive" in words)
    return ProxyRequest(found[1], found[2], headers, keeps_alive)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
