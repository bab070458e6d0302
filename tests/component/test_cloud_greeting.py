# SPDX-License-Identifier: GPL-2.0-or-later
"""Waiting for a new node's sshd: over IPv6 too, and not fooled by whatever else answers."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mock_cloud.cloud.apis.waiting import find_greeting_problem
from mock_cloud.model import SSH_PORT, NodeAddress
from mock_cloud.remote.connect import connect
from tests.lab.sshd import Sshd, SshdOptions, find_missing

ADDRESS = "127.31.22.7"


@pytest.fixture
def sshd_on_ipv6(tmp_path: Path) -> Iterator[Sshd]:
    missing = find_missing()
    if missing:
        pytest.skip(f"needs {missing}")
    try:
        with socket.create_server(("::1", SSH_PORT), family=socket.AF_INET6):
            pass
    except OSError as error:
        pytest.skip(f"needs port 22 of ::1: {error.strerror}")
    with Sshd(tmp_path / "sshd", SshdOptions(extra=f"ListenAddress [::1]:{SSH_PORT}\n")) as sshd:
        yield sshd


@pytest.mark.fault(15)
def test_15_a_node_with_ipv6_only(sshd_on_ipv6: Sshd) -> None:
    assert find_greeting_problem("::1", time.monotonic() + 60) == ""
    address = NodeAddress("::1", SSH_PORT, "root", sshd_on_ipv6.host_key.public)
    node = connect(address, sshd_on_ipv6.client_key.private, deadline_s=10)
    node.close()


@contextlib.contextmanager
def answering(text: bytes) -> Iterator[None]:
    """Something on port 22 that says `text` to one client and hangs up."""
    with socket.create_server((ADDRESS, SSH_PORT)) as server:

        def answer() -> None:
            client, _ = server.accept()
            with client:
                client.sendall(text)

        thread = threading.Thread(target=answer)
        thread.start()
        yield
        thread.join()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"SSH-2.0-x\r\n", ""),
        (b"a line before it\r\nSSH-2.0-x\r\n", ""),
        (b"", "it does not greet as an SSH server does"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\nSSH-1.5-old\r\n", "it does not greet"),
        (b"x" * 8192, "it does not greet"),
    ],
    ids=["greeting", "banner", "silence", "other", "flood"],
)
def test_what_counts_as_a_greeting(text: bytes, problem: str) -> None:
    with answering(text):
        found = find_greeting_problem(ADDRESS, time.monotonic() + 60)
    assert found.startswith(problem) and bool(found) == bool(problem)


def test_nobody_there() -> None:
    assert find_greeting_problem(ADDRESS, time.monotonic() + 60) == "Connection refused"
