# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab's HTTP server: what it serves, what it notes, how it fails when told to."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.http import Access, Fault, FileServer

pytestmark = pytest.mark.lab  # for the leak guard: neither root nor the distribution is needed

CONTENT = bytes(range(256)) * 4096


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FileServer]:
    root = tmp_path / "root"
    root.mkdir()
    (root / "file").write_bytes(CONTENT)
    (tmp_path / "secret").write_text("outside")
    (root / "link").symlink_to("../secret")
    with FileServer({"/dist": root}) as running:
        yield running


def get(server: FileServer, path: str, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=600)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_serves_and_notes(server: FileServer) -> None:
    assert get(server, "/dist/file") == (200, CONTENT)
    assert server.accesses() == (Access("GET", "/dist/file", 200, len(CONTENT)),)
    server.forget_accesses()
    assert server.accesses() == ()


def test_ranges(server: FileServer) -> None:
    assert get(server, "/dist/file", Range="bytes=100-199") == (206, CONTENT[100:200])
    assert get(server, "/dist/file", Range="bytes=1000000-") == (206, CONTENT[1000000:])
    assert [access.start for access in server.accesses()] == [100, 1000000]


@pytest.mark.parametrize(
    "path", ["/dist/../secret", "/dist/link", "/secret", "/dist/none", "/dist"]
)
def test_nothing_outside_the_mount(server: FileServer, path: str) -> None:
    assert get(server, path)[0] == 404


def test_one_connection_many_requests(server: FileServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=600)
    for _ in range(3):
        connection.request("GET", "/dist/file")
        assert connection.getresponse().read() == CONTENT
    connection.close()


@pytest.mark.parametrize(("kind", "status"), [(Fault.NOT_FOUND, 404), (Fault.SERVER_ERROR, 500)])
def test_error_statuses(server: FileServer, kind: Fault, status: int) -> None:
    with server.fault("/dist/f", kind, times=1):
        assert get(server, "/dist/file")[0] == status
        assert get(server, "/dist/file")[0] == 200
    with server.fault("/other", kind):
        assert get(server, "/dist/file")[0] == 200


def test_truncated_body(server: FileServer) -> None:
    with (
        server.fault("/dist", Fault.TRUNCATED),
        pytest.raises(http.client.IncompleteRead) as caught,
    ):
        get(server, "/dist/file")
    assert caught.value.partial == CONTENT[: len(CONTENT) // 2]


def test_hang_ends_when_lifted(server: FileServer) -> None:
    failed_at_s: list[float] = []

    def ask() -> None:
        with pytest.raises(http.client.RemoteDisconnected):
            get(server, "/dist/file")
        failed_at_s.append(time.monotonic())

    client = threading.Thread(target=ask)
    with server.fault("/dist", Fault.HANG):
        client.start()
        time.sleep(0.3)
        lifted_s = time.monotonic()
    client.join()
    assert failed_at_s[0] >= lifted_s


def test_leaving_ends_idle_and_hanging_connections(tmp_path: Path) -> None:
    with FileServer({"/": tmp_path}) as running:
        idle = socket.create_connection(("127.0.0.1", running.port))
        with running.fault("/", Fault.HANG):
            hanging = socket.create_connection(("127.0.0.1", running.port))
            hanging.sendall(b"GET /x HTTP/1.1\r\n\r\n")
            time.sleep(0.1)
            started_s = time.monotonic()
            running.__exit__(None, None, None)
            assert time.monotonic() - started_s < 60
            assert idle.recv(1) == b""
        idle.close()
        hanging.close()
