# SPDX-License-Identifier: GPL-2.0-or-later
"""A file that the node fetches from a web server, as the controller asks: hostile until checked.

One GET without redirects, proxies, cookies or passwords, of as many bytes as were asked for.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from mock_cloud.agent.blobs import Blobs
from mock_cloud.agent.serve_wire import Failure
from mock_cloud.wire.dial import dial
from mock_cloud.wire.layout import CA_BUNDLES

_CONNECT_S: Final = 10.0
_SILENCE_S: Final = 20.0
_BLOCK_BYTES: Final = 1 << 20
_PORTS: Final = {"http": http.client.HTTP_PORT, "https": http.client.HTTPS_PORT}


def fetch_blob(blobs: Blobs, digest: str, size: int, url: str, within_s: float) -> None:
    """Make a blob of what `url` has, unless it is here.

    Failure ``unreached`` if the server is not, ``fetch`` if it has something else, ``no-space``;
    nothing of it stays then. `within_s` bounds all but the look-up of the server's name.
    """
    if not blobs.is_whole(digest):
        try:
            blobs.take(digest, _fetched(url, size, within_s))
        except Failure as failure:
            if failure.code != "digest":
                raise
            raise Failure("fetch", f"{url}: another file: {failure.message}") from failure


def _fetched(url: str, size: int, within_s: float) -> Iterator[bytes]:
    """`size` bytes. Failure."""
    try:
        with _connected(url, within_s) as connection:
            answer = _ask(connection, url, size)
            while size:
                data = answer.read(min(_BLOCK_BYTES, size))
                if not data:
                    raise OSError("the connection broke off")
                yield data
                size -= len(data)
    except http.client.HTTPException as error:
        raise Failure("fetch", f"{url}: no HTTP: {error}") from error
    except OSError as error:
        raise Failure("fetch", f"{url}: {error}") from error


@contextlib.contextmanager
def _connected(url: str, within_s: float) -> Iterator[http.client.HTTPConnection]:
    """A connection that breaks off when the time is over, whatever a server does to last."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
        sock = dial(host, port, min(_CONNECT_S, within_s))
    except (OSError, ValueError, KeyError) as error:  # ValueError: no port, no name
        raise Failure("unreached", f"{url}: {error}") from error

    def break_off() -> None:
        with contextlib.suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)  # below TLS, which the reader uses

    timer = threading.Timer(within_s, break_off)
    timer.daemon = True
    try:
        sock.settimeout(_SILENCE_S)
        if parts.scheme == "https":
            bundle = next((path for path in CA_BUNDLES if os.path.exists(path)), None)
            context = ssl.create_default_context(cafile=bundle)
            sock = context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
        timer.start()
        if isinstance(sock, ssl.SSLSocket):
            sock.do_handshake()
        connection = http.client.HTTPConnection(host, port)
        connection.sock = sock
        yield connection
    finally:
        timer.cancel()
        sock.close()


def _ask(connection: http.client.HTTPConnection, url: str, size: int) -> http.client.HTTPResponse:
    parts = urlsplit(url)
    connection.request(
        "GET", parts.path, headers={"Host": parts.netloc, "User-Agent": "mock-cloud"}
    )
    answer = connection.getresponse()
    if answer.status != http.client.OK:
        raise Failure("fetch", f"{url}: status {answer.status}")
    if answer.length != size:
        raise Failure("fetch", f"{url}: {answer.length} bytes, not {size}")
    return answer
