# SPDX-License-Identifier: GPL-2.0-or-later
"""A proxy over socket pairs, servers behind it, and repositories with secrets."""

from __future__ import annotations

import gzip
import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mock_cloud.model import Secret
from mock_cloud.network import Login
from mock_cloud.repoproxy.access import Access
from mock_cloud.repoproxy.allow import AllowList
from mock_cloud.repoproxy.cache import RepositoryCache
from mock_cloud.repoproxy.proxy import RepoProxy
from mock_cloud.repoproxy.repository import ServedRepository


class Server:
    """A TCP server that does with each connection what it is told."""

    def __init__(self, answer: Callable[[socket.socket], None]) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.count = 0
        self._answer = answer
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                connection = self._listener.accept()[0]
                self.count += 1
                with connection, suppress(OSError):
                    self._answer(connection)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


class Proxied:
    """One proxy and the warnings it gave."""

    def __init__(self, allowed: AllowList, **times: float) -> None:
        self.said: list[str] = []
        self.proxy = RepoProxy(allowed, self.said.append, **times)

    @contextmanager
    def connection(self) -> Iterator[socket.socket]:
        ours, its = socket.socketpair()
        thread = threading.Thread(target=self.proxy.serve, args=(its,))
        thread.start()
        ours.settimeout(20)
        try:
            yield ours
        finally:
            ours.close()
            thread.join(20)
            assert not thread.is_alive()

    def ask(self, *requests: bytes) -> bytes:
        """All that comes back for what is sent, until the proxy or we end it."""
        with self.connection() as connection:
            for one in requests:
                connection.sendall(one)
            connection.shutdown(socket.SHUT_WR)
            return all_of(connection)

    def get(self, url: str, *headers: str, method: str = "GET") -> tuple[int, str, bytes]:
        lines = [f"{method} {url} HTTP/1.1", "Host: x", *headers]
        head, _, body = self.ask(("\r\n".join(lines) + "\r\n\r\n").encode()).partition(b"\r\n\r\n")
        return int(head.split()[1]), head.decode(), body


HOST = "http://r.repos.mock-cloud.invalid"


LOGIN = Login("me", Secret(b"hunter22"))


PACKAGE = b"package" * 100_000


def checksum(data: bytes, kind: str = "sha256") -> str:
    return f'<checksum type="{kind}" pkgid="YES">{hashlib.new(kind, data).hexdigest()}</checksum>'


def package(data: bytes, location: str, size: int | None = None) -> str:
    size = len(data) if size is None else size
    return (f'<package type="rpm"><name>p</name>{checksum(data)}<size package="{size}"'
            f' installed="1" archive="1"/><location {location}/></package>')  # fmt: skip


def make(root: Path, *packages: str, more: str = "") -> Path:
    """A repository's metadata at `root`, which lists `packages`."""
    (root / "repodata").mkdir(parents=True, exist_ok=True)
    primary = gzip.compress(f"<metadata>{''.join(packages)}</metadata>".encode())
    (root / "repodata/primary.xml.gz").write_bytes(primary)
    (root / "repodata/repomd.xml").write_text(
        f'<repomd><data type="primary">{checksum(primary)}<size>{len(primary)}</size>'
        f'<location href="repodata/primary.xml.gz"/></data>{more}</repomd>'
    )
    return root


def proxied(access: Access, cache: RepositoryCache | None = None) -> Proxied:
    return Proxied(AllowList(repositories=(ServedRepository(access, cache),)))


def all_of(connection: socket.socket) -> bytes:
    found = b""
    while data := connection.recv(1 << 16):
        found += data
    return found
