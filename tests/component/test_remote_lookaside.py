# SPDX-License-Identifier: GPL-2.0-or-later
"""What a lookaside cache has is fetched by the node: a real sshd, agent and web server."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mock_cloud.model import Blob
from mock_cloud.remote.reuse import Elsewhere
from mock_cloud.remote.trusted import TrustedChannel
from mock_cloud.wire.layout import CA_BUNDLES
from tests.component.remote_parts import (
    MIB,
    LocalToolkit,
    blob_of,
    random_bytes,
    sha256,
    source_package,
)
from tests.lab.http import FileServer
from tests.lab.tls import Authority

NAME = "big-1.0.tar.xz"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FileServer]:
    (tmp_path / "cache").mkdir()
    with FileServer({"/pkgs": tmp_path / "cache"}) as server:
        yield server


def offered(server: FileServer, tmp_path: Path, name: str, data: bytes) -> Elsewhere:
    (tmp_path / "cache" / name).write_bytes(data)
    return Elsewhere(name, sha256(data), len(data), f"{server.url}/pkgs/{name}")


def fetch(channel: TrustedChannel, blob: Blob, *files: Elsewhere) -> tuple[list[str], list[str]]:
    """What was said, and what could not be had."""
    told: list[str] = []
    return told, channel.fetch_elsewhere({blob.digest: files}, told.append)


def test_a_source_is_fetched_and_not_sent(
    channel: TrustedChannel, toolkit: LocalToolkit, server: FileServer, tmp_path: Path
) -> None:
    data = random_bytes(1, 3 * MIB)
    blob = blob_of(tmp_path / "here", data)
    file = offered(server, tmp_path, NAME, data)
    assert fetch(channel, blob, file) == ([NAME], [])
    assert channel.send_blobs([blob]) == 0
    assert (toolkit.workspace / "blobs" / blob.digest).read_bytes() == data
    assert fetch(channel, blob, file) == ([], [])  # it is there
    assert [one.sent_bytes for one in server.accesses()] == [len(data)]


def test_a_server_that_is_not_reached_is_asked_for_one_file(
    channel: TrustedChannel, tmp_path: Path
) -> None:
    blob = blob_of(tmp_path / "here", random_bytes(1, 3 * MIB))
    files = [Elsewhere(name, blob.digest, 1, f"http://127.0.0.1:1/{name}") for name in ("a", "b")]
    told, problems = fetch(channel, blob, *files)
    assert told == ["a"] and len(problems) == 1 and "refused" in problems[0]
    assert channel.send_blobs([blob]) == blob.size_bytes


def test_what_came_of_an_earlier_attempt_is_not_fetched(
    channel: TrustedChannel, server: FileServer, toolkit: LocalToolkit, tmp_path: Path
) -> None:
    data = random_bytes(1, 3 * MIB)
    blob = blob_of(tmp_path / "here", data)
    (toolkit.workspace / "blobs" / f"{blob.digest}.part").write_bytes(data[:MIB])
    assert fetch(channel, blob, offered(server, tmp_path, NAME, data)) == ([], [])
    assert channel.send_blobs([blob]) == 2 * MIB


_BY_TLS = """
import sys
from mock_cloud.agent.blobs import Blobs
from mock_cloud.agent.fetch import fetch_blob
place, digest, size, url = sys.argv[1:]
fetch_blob(Blobs(place), digest, int(size), url, 60)
"""


def test_a_server_with_tls_is_judged_by_the_authorities_of_the_node(tmp_path: Path) -> None:
    bundle = next((path for path in CA_BUNDLES if Path(path).exists()), None)
    if os.getuid() or bundle is None or shutil.which("unshare") is None:
        pytest.skip("needs root, unshare and a file of authorities")
    authority = Authority(tmp_path)
    (tmp_path / "cache").mkdir()
    with FileServer({"/pkgs": tmp_path / "cache"}, context=authority.server("127.0.0.1")) as server:
        file = offered(server, tmp_path, NAME, b"data")
        script = (
            f"mount --bind {authority.path} {bundle} && exec {sys.executable} -c '{_BY_TLS}' \"$@\""
        )
        words = ["sh", str(tmp_path / "node"), file.digest, str(file.size_bytes), file.url]
        subprocess.run(["unshare", "--mount", "sh", "-c", script, *words], check=True)
    assert (tmp_path / "node/blobs" / file.digest).read_bytes() == b"data"


@pytest.mark.parametrize(
    ("payload", "sent_share"), [("w.ufdio", 0.01), ("w3.zstdio", 0.1), ("w6.gzdio", 0.7)]
)
def test_a_source_package_is_put_together_of_what_the_node_fetched(
    channel: TrustedChannel,
    toolkit: LocalToolkit,
    server: FileServer,
    tmp_path: Path,
    payload: str,
    sent_share: float,
) -> None:
    """Archives stand in it nearly as they are, whatever its payload is compressed with."""
    data = random_bytes(1, 8_000_000)
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / NAME).write_bytes(data)
    blob = source_package(tmp_path / "p", "package", payload)
    assert fetch(channel, blob, offered(server, tmp_path, NAME, data)) == ([NAME], [])
    assert channel.send_blobs([blob]) < blob.size_bytes * sent_share
    stored = toolkit.workspace / "blobs" / blob.digest
    assert sha256(stored.read_bytes()) == blob.digest
