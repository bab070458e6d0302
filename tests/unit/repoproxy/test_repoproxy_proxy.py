# SPDX-License-Identifier: GPL-2.0-or-later
"""The proxy over socket pairs, with real servers behind it: what it serves, what it refuses."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mock_cloud.repoproxy import files, upstream
from mock_cloud.repoproxy.access import Scope
from mock_cloud.repoproxy.allow import FILES_HOST, LISTS_HOST, AllowedPlace, AllowList, End
from mock_cloud.repoproxy.http1 import HEAD_MAX_BYTES
from tests.lab.http import Fault, FileServer
from tests.unit.repoproxy.proxied import Proxied, Server, all_of


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "repo"
    (root / "sub").mkdir(parents=True)
    (root / "a.rpm").write_bytes(bytes(range(256)) * 4000)
    (root / "sub/link.rpm").symlink_to("../a.rpm")
    (root / "out").symlink_to(tmp_path)
    (root / "secret").symlink_to(tmp_path / "secret")
    (tmp_path / "secret").write_text("secret")
    os.mkfifo(root / "fifo")
    return root


def test_files_of_an_allowed_directory(tree: Path) -> None:
    proxied = Proxied(AllowList(directories=(tree,)))
    data = (tree / "a.rpm").read_bytes()
    url = f"http://{FILES_HOST}{tree}"
    assert proxied.get(f"{url}/a.rpm")[::2] == (200, data)
    assert proxied.get(f"{url}/sub/link.rpm")[::2] == (200, data)
    status, head, body = proxied.get(f"{url}/a.rpm", "Range: bytes=10-19")
    assert (status, body) == (206, data[10:20])
    assert f"Content-Range: bytes 10-19/{len(data)}\r\n" in head
    assert proxied.get(f"{url}/a.rpm", "Range: bytes=-5")[::2] == (206, data[-5:])
    assert proxied.get(f"{url}/a.rpm", "Range: bytes=9999999-")[0] == 416
    assert proxied.get(f"{url}/a.rpm", "Range: bytes=0-1,5-6")[::2] == (200, data)
    status, head, body = proxied.get(f"{url}/a.rpm", method="HEAD")
    assert (status, body) == (200, b"") and f"\r\nContent-Length: {len(data)}" in head
    assert proxied.said == []


@pytest.mark.parametrize("path", ["/secret", "/out/secret", "/out/repo", "/fifo", "/sub",
                                  "/sub/", "/", "/missing", "/a.rpm/x"])  # fmt: skip
def test_what_is_no_file_in_the_directory_is_not_there(tree: Path, path: str) -> None:
    proxied = Proxied(AllowList(directories=(tree,)))
    status, _, body = proxied.get(f"http://{FILES_HOST}{tree}{path}")
    assert status == 404 and b"secret" not in body.replace(b"no such", b"")


def test_a_link_that_is_put_in_meanwhile_is_not_followed(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The window between finding out where a path leads and opening it."""
    real = os.open

    def swap(path: str, flags: int, **given: int) -> int:
        if path == "a.rpm":
            (tree / "a.rpm").unlink()
            (tree / "a.rpm").symlink_to(tree.parent / "secret")
        return real(path, flags, **given)

    monkeypatch.setattr(files.os, "open", swap)
    with pytest.raises(OSError, match=r"a\.rpm|symbolic"):
        files.open_inside(tree, "a.rpm")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET http://x/ HTTP/1.1\r\nA: b\nEvil: c\r\n\r\n", 400),
        (b"GET http://x/ HTTP/1.1\r\nA : b\r\n\r\n", 400),
        (b"GET http://x/ HTTP/1.1\r\n folded\r\n\r\n", 400),
        (b"GET http://x/ HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n", 400),
        (b"GET http://x/ HTTP/1.1\r\nContent-Length: 4\r\n\r\n", 400),
        (b"GET http://x/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET http://x/\rEvil:b HTTP/1.1\r\n\r\n", 400),
        (b"GET http://x/ HTTP/2.0\r\n\r\n", 400),
        (b"GET http://x/ y HTTP/1.1\r\n\r\n", 400),
        (b"GET http://x/\xff HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
        (b"POST http://x/ HTTP/1.1\r\n\r\n", 405),
        (b"TRACE http://x/ HTTP/1.1\r\n\r\n", 405),
        (b"GET http://x/ HTTP/1.1\r\n" + b"A: b\r\n" * 65 + b"\r\n", 431),
        (b"GET http://x/ HTTP/1.1\r\nA: " + b"b" * HEAD_MAX_BYTES + b"\r\n\r\n", 431),
        (b"G" * (HEAD_MAX_BYTES + 1), 431),
        (b"GET http://x/ HTTP/1.1\r\n\r\n", 403),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 403),
        (b"CONNECT x:443 HTTP/1.1\r\n\r\n", 403),
        (b"CONNECT x HTTP/1.1\r\n\r\n", 403),
        (b"CONNECT x:-1 HTTP/1.1\r\n\r\n", 403),
    ],
)
def test_requests_that_are_refused(request_bytes: bytes, status: int) -> None:
    answer = Proxied(AllowList()).ask(request_bytes)
    assert int(answer.split()[1]) == status and answer.count(b"HTTP/1.1 ") == 1


def test_a_refusal_names_the_url() -> None:
    proxied = Proxied(AllowList())
    proxied.get("http://10.0.0.1/admin")
    proxied.ask(b"CONNECT 10.0.0.1:22 HTTP/1.1\r\n\r\n")
    assert "http://10.0.0.1/admin" in proxied.said[0] and "10.0.0.1:22" in proxied.said[1]


def test_http_is_passed_on_and_connections_are_used_again(tree: Path) -> None:
    with FileServer({"/r": tree}) as server:
        place = AllowedPlace("127.0.0.1", server.port, "/r/")
        proxied = Proxied(AllowList((place,)))
        data = (tree / "a.rpm").read_bytes()
        status, head, body = proxied.get(f"{server.url}/r/a.rpm", "Range: bytes=5-9")
        assert (status, body) == (206, data[5:10]) and "Last-Modified: " in head.title()
        one = f"GET {server.url}/r/sub/link.rpm HTTP/1.1\r\nRange: bytes=0-3\r\n\r\n".encode()
        head = f"HEAD {server.url}/r/a.rpm HTTP/1.1\r\n\r\n".encode()
        lost = f"GET {server.url}/r/nothing HTTP/1.1\r\n\r\n".encode()
        answers = proxied.ask(one + head + lost + one)
        assert [int(part[:3]) for part in answers.split(b"HTTP/1.1 ")[1:]] == [206, 200, 404, 206]
        assert len(server.accesses()) == 5
        with server.fault("/r", Fault.TRUNCATED):
            _, head, body = proxied.get(f"{server.url}/r/a.rpm")
        assert f"content-length: {len(data)}" in head.lower() and len(body) < len(data)
    assert proxied.get(f"{server.url}/r/a.rpm")[0] == 502
    assert proxied.said and "cannot fetch" in proxied.said[-1]


def test_a_redirect_goes_to_the_client_who_is_judged_again(
    serve: Callable[[Callable[[socket.socket], None]], Server],
) -> None:
    def redirect(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        connection.sendall(
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/admin\r\nSet-Cookie: a=b\r\n"
            b"Content-Length: 0\r\nConnection: close\r\n\r\n"
        )

    server = serve(redirect)
    proxied = Proxied(AllowList((AllowedPlace("127.0.0.1", server.port, "/"),)))
    status, head, _ = proxied.get(f"http://127.0.0.1:{server.port}/x")
    assert status == 302 and "location: http://127.0.0.1:1/admin" in head and "Cookie" not in head
    assert proxied.get("http://127.0.0.1:1/admin")[0] == 403


def test_only_known_headers_are_passed_on(
    serve: Callable[[Callable[[socket.socket], None]], Server],
) -> None:
    heard: list[bytes] = []

    def listen(connection: socket.socket) -> None:
        heard.append(connection.recv(1 << 16))
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nbody without a size")

    server = serve(listen)
    url = f"http://127.0.0.1:{server.port}/r/x"
    proxied = Proxied(AllowList((AllowedPlace("127.0.0.1", server.port, "/r/"),)))
    status, head, body = proxied.get(
        url, "Cookie: c", "X-Forwarded-For: 1", "Range: bytes=0-", "Proxy-Authorization: p"
    )
    assert (status, body) == (200, b"body without a size") and "Connection: close" in head
    asked = heard[0].decode().splitlines()
    assert asked[0] == "GET /r/x HTTP/1.1"
    assert sorted(asked[1:-1]) == [f"Host: 127.0.0.1:{server.port}", "range: bytes=0-"]


def test_tls_is_relayed_both_ways(
    serve: Callable[[Callable[[socket.socket], None]], Server],
) -> None:
    def echo(connection: socket.socket) -> None:
        while data := connection.recv(1 << 16):
            connection.sendall(data)

    server = serve(echo)
    proxied = Proxied(AllowList(ends=(End("127.0.0.1", server.port),)))
    payload = os.urandom(3 << 20)
    with proxied.connection() as connection:
        connection.sendall(f"CONNECT 127.0.0.1:{server.port} HTTP/1.1\r\n\r\nearly".encode())
        sender = threading.Thread(target=lambda: (connection.sendall(payload),
                                                  connection.shutdown(socket.SHUT_WR)))  # fmt: skip
        sender.start()
        head, _, body = all_of(connection).partition(b"\r\n\r\n")
        sender.join()
    assert b" 200 " in head and body == b"early" + payload


def test_mirrors_of_a_public_list_are_public(
    serve: Callable[[Callable[[socket.socket], None]], Server],
) -> None:
    server = serve(lambda connection: None)
    allowed = AllowList((AllowedPlace("127.0.0.1", server.port, "/", scope=Scope.PUBLIC),),
                        (End("localhost", server.port, scope=Scope.PUBLIC),))  # fmt: skip
    proxied = Proxied(allowed)
    assert proxied.get(f"http://127.0.0.1:{server.port}/x")[0] == 502
    asked = f"CONNECT localhost:{server.port} HTTP/1.1\r\n\r\n".encode()
    assert b" 502 " in proxied.ask(asked)
    assert server.count == 0 and "no public address" in proxied.said[0]
    for address in ("10.1.2.3", "::1", "fe80::1%eth0", "::ffff:192.168.1.1", "100.64.0.1",
                    "169.254.169.254", "224.0.0.1", "x"):  # fmt: skip
        assert not upstream.is_public(address)
    assert upstream.is_public("8.8.8.8") and upstream.is_public("2001:4860:4860::8888")


def test_a_list_is_what_this_machine_fetched() -> None:
    proxied = Proxied(AllowList(documents={"/r/mirrorlist": b"http://m/\n"}))
    assert proxied.get(f"http://{LISTS_HOST}/r/mirrorlist")[::2] == (200, b"http://m/\n")


@pytest.mark.parametrize("sent", [b"", b"GET http://x/ HT"])
def test_a_client_that_is_too_slow_is_left(sent: bytes) -> None:
    proxied = Proxied(AllowList(), idle_s=0.05, head_s=0.05)
    with proxied.connection() as connection:
        connection.sendall(sent)
        assert connection.recv(100) == b""


def test_a_client_that_drips_is_left() -> None:
    """The deadline is for the whole head, not for each piece of it."""
    proxied = Proxied(AllowList(), head_s=0.2)
    with proxied.connection() as connection, pytest.raises(OSError, match=r"[Pp]ipe|reset"):
        while True:
            connection.sendall(b"G")
            threading.Event().wait(0.02)


def test_a_client_that_reads_nothing_is_left(tree: Path) -> None:
    proxied = Proxied(AllowList(directories=(tree,)), send_s=0.05)
    ours, its = socket.socketpair()
    its.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    ours.sendall(f"GET http://{FILES_HOST}{tree}/a.rpm HTTP/1.1\r\n\r\n".encode())
    proxied.proxy.serve(its)  # comes back
    ours.close()
    assert its.fileno() == -1


def test_closing_ends_who_waits_for_a_server(
    serve: Callable[[Callable[[socket.socket], None]], Server],
) -> None:
    silent = threading.Event()
    server = serve(lambda connection: (silent.set(), connection.recv(1), connection.recv(1 << 16),
                                       connection.recv(1))[0])  # fmt: skip
    proxied = Proxied(AllowList((AllowedPlace("127.0.0.1", server.port, "/"),)))
    with proxied.connection() as connection:
        connection.sendall(f"GET http://127.0.0.1:{server.port}/x HTTP/1.1\r\n\r\n".encode())
        assert silent.wait(10)
        proxied.proxy.close()
        assert b" 502 " in connection.recv(1 << 16)
    assert proxied.get(f"http://127.0.0.1:{server.port}/x")[0] == 502
