# SPDX-License-Identifier: GPL-2.0-or-later
"""Servers, and a repository with secrets."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mock_cloud.repoproxy.cache import RepositoryCache
from tests.lab.tls import Authority
from tests.unit.repoproxy.proxied import PACKAGE, Server, make, package


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[socket.socket], None]], Server]]:
    made: list[Server] = []

    def start(answer: Callable[[socket.socket], None]) -> Server:
        made.append(Server(answer))
        return made[-1]

    yield start
    for one in made:
        one.close()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = make(tmp_path / "repo", package(PACKAGE, 'href="Packages/a+b.rpm"'))
    (root / "Packages").mkdir()
    (root / "Packages/a+b.rpm").write_bytes(PACKAGE)
    (root / "Packages/unlisted.rpm").write_bytes(b"unlisted")
    return root


@pytest.fixture
def cache(tmp_path: Path) -> RepositoryCache:
    return RepositoryCache(tmp_path / "cache", "r")


@pytest.fixture
def firm(tmp_path: Path) -> Authority:
    (tmp_path / "firm").mkdir()
    return Authority(tmp_path / "firm")
