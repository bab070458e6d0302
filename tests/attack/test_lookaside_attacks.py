# SPDX-License-Identifier: GPL-2.0-or-later
"""A lookaside cache that is hostile, and a node that lies of what it fetched: sent in full."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

from mock_cloud.errors import RemoteCommandError
from mock_cloud.model import Blob
from mock_cloud.remote.reuse import Elsewhere
from mock_cloud.remote.trusted import TrustedChannel
from tests.attack import victim
from tests.attack.conftest import Between
from tests.attack.hostile_node import MODES
from tests.component.remote_parts import LocalToolkit
from tests.lab.http import Fault, FileServer
from tests.lab.sshd import Sshd
from tests.lab.tls import Authority

DATA: Final = b"what the controller has " * (1 << 16)
BLOB: Final = Blob(hashlib.sha256(DATA).hexdigest(), len(DATA), DATA)
_OK: Final = b"HTTP/1.1 200 OK\r\n"
_LARGE: Final = b"Content-Length: %d\r\n\r\n" % (1 << 30)
_WHOLE: Final = b"Content-Length: %d\r\n\r\n" % len(DATA)


def check_is_sent(channel: TrustedChannel, toolkit: LocalToolkit, url: str, says: str) -> None:
    """Nothing of what `url` has stays, a line says why, and the input is sent."""
    file = Elsewhere("x.tar.xz", BLOB.digest, len(DATA), url)
    (problem,) = channel.fetch_elsewhere({BLOB.digest: [file]}, lambda name: None)
    assert says in problem
    blobs = toolkit.workspace / "blobs"
    assert list(blobs.iterdir()) == []
    assert channel.send_blobs([BLOB]) == len(DATA)
    assert (blobs / BLOB.digest).read_bytes() == DATA


@contextmanager
def saying(pieces: Callable[[], Iterable[bytes]]) -> Iterator[str]:
    """A server that says `pieces` to whoever connects; its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                connection.recv(65536)
                for piece in pieces():
                    connection.sendall(piece)
                    if over.is_set():
                        break

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/x"
    finally:
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def _for_ever(start: bytes, piece: bytes) -> Callable[[], Iterable[bytes]]:
    def pieces() -> Iterator[bytes]:
        yield start
        while True:
            yield piece

    return pieces


@pytest.mark.attack(
    "lookaside cache",
    "other bytes of the same size, fewer, more, or without end; headers without end",
    "none stays on the node; the input is sent",
)
@pytest.mark.parametrize(
    ("pieces", "says"),
    [
        (lambda: [_OK + _WHOLE, DATA[::-1]], "another file"),
        (lambda: [_OK + _WHOLE, DATA[:-1]], "broke off"),
        (_for_ever(_OK + _WHOLE, bytes(1 << 16)), "another file"),
        (_for_ever(_OK + b"\r\n", bytes(1 << 16)), "None bytes"),
        (_for_ever(_OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"), "None bytes"),
        (lambda: [_OK + b"Content-Length: %d\r\n\r\n" % (1 << 60)], f"{1 << 60} bytes"),
        (_for_ever(_OK, b"X-More: and more\r\n"), "got more than 100 headers"),
        (_for_ever(_OK, b"x" * 65536), "got more than 65536 bytes"),
        (lambda: [b"\0\xff\n\n"], "no HTTP"),
    ],
    ids=["other", "fewer", "more", "endless", "chunked", "announced", "headers", "line", "no-http"],
)
def test_other_bytes(
    channel: TrustedChannel, toolkit: LocalToolkit, pieces: Callable[[], Iterable[bytes]], says: str
) -> None:
    with saying(pieces) as url:
        check_is_sent(channel, toolkit, url, says)


@pytest.mark.attack(
    "lookaside cache",
    "sends so slowly that the node would wait for ever",
    "the connection is given up when its time is over",
)
@pytest.mark.parametrize(
    ("start", "drop"),
    [(b"", b"1"), (_OK, b"1"), (_OK + _LARGE, b"1"), (b"", b"HTTP/1.1 100 Continue\r\n\r\n")],
    ids=["status", "headers", "body", "100"],
)
def test_a_server_that_drips(
    channel: TrustedChannel, toolkit: LocalToolkit, start: bytes, drop: bytes
) -> None:
    pause = threading.Event()

    def pieces() -> Iterator[bytes]:
        yield start
        while True:
            pause.wait(0.05)
            yield drop

    with saying(pieces) as url, pytest.raises(RemoteCommandError) as caught:
        channel._agent.ask(
            "fetch", within_s=60, within_ms=500, digest=BLOB.digest, size=1 << 30, url=url
        )
    assert caught.value.code == "fetch"
    assert list((toolkit.workspace / "blobs").iterdir()) == []


@pytest.mark.attack(
    "lookaside cache",
    "redirects the node to another host, or to the same",
    "not followed, not even to the right file",
)
@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
def test_redirects(
    channel: TrustedChannel, toolkit: LocalToolkit, tmp_path: Path, status: str
) -> None:
    (tmp_path / "x").write_bytes(DATA)
    with FileServer({"/pkgs": tmp_path}, host="127.0.0.2") as other:
        answer = f"HTTP/1.1 {status}\r\nLocation: {other.url}/pkgs/x\r\nContent-Length: 0\r\n\r\n"
        with saying(lambda: [answer.encode()]) as url:
            check_is_sent(channel, toolkit, url, f"status {status[:3]}")
        assert other.accesses() == ()


@pytest.mark.attack(
    "network, between node and lookaside cache",
    "answers in its place, with a certificate of nobody's",
    "refused before anything is asked",
)
def test_a_certificate_that_nobody_knows(
    channel: TrustedChannel, toolkit: LocalToolkit, tmp_path: Path
) -> None:
    (tmp_path / "x").write_bytes(DATA)
    context = Authority(tmp_path).server("127.0.0.1")
    with FileServer({"/pkgs": tmp_path}, context=context) as server:
        check_is_sent(channel, toolkit, f"{server.url}/pkgs/x", "certificate verify failed")
        assert server.accesses() == ()


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault.NOT_FOUND, "status 404"),
        (Fault.SERVER_ERROR, "status 500"),
        (Fault.TRUNCATED, ""),
    ],
)
def test_a_cache_that_lacks_it(
    channel: TrustedChannel, toolkit: LocalToolkit, tmp_path: Path, fault: Fault, says: str
) -> None:
    (tmp_path / "x").write_bytes(DATA)
    with FileServer({"/pkgs": tmp_path}) as server, server.fault("/pkgs", fault):
        check_is_sent(channel, toolkit, f"{server.url}/pkgs/x", says)


@pytest.mark.attack(
    "node, after the verdict",
    "it says that it fetched an input of which it has nothing",
    "it is asked what it has, and all is sent",
)
def test_a_node_that_claims_to_have_fetched(
    shared_sshd: Sshd, toolkit: LocalToolkit, between: Between, tmp_path: Path
) -> None:
    relay = between(shared_sshd, MODES["fetch-liar"]())
    steps = "start trust lookaside"
    fate = victim.run(relay.address, shared_sshd, toolkit, steps=steps, place=tmp_path)
    assert fate.error == "", fate
    sent = b"lookaside" * (1 << 18)
    stored = toolkit.workspace / "blobs" / hashlib.sha256(sent).hexdigest()
    assert stored.read_bytes() == sent
