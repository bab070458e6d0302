# SPDX-License-Identifier: GPL-2.0-or-later
"""A real sshd, a node's workspace, and the check that a connection leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mock_cloud.remote.connect import connect
from mock_cloud.remote.trusted import TrustedChannel, trust
from mock_cloud.remote.unverified import UnverifiedNode
from tests.component.remote_parts import (
    LocalToolkit,
    agent_pids,
    make_proof,
    make_toolkit,
    open_descriptors,
    own_threads,
)
from tests.lab.sshd import Sshd, find_missing
from tests.waiting import wait_for

Connect = Callable[..., UnverifiedNode]


@pytest.fixture(scope="session")
def shared_sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """One sshd for all tests that don't harm it."""
    missing = find_missing()
    if missing:
        pytest.skip(f"needs {missing}")
    with Sshd(tmp_path_factory.mktemp("sshd")) as sshd:
        yield sshd


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    """An sshd that a test may harm."""
    missing = find_missing()
    if missing:
        pytest.skip(f"needs {missing}")
    with Sshd(tmp_path / "sshd") as sshd:
        yield sshd


@pytest.fixture
def toolkit(tmp_path: Path) -> LocalToolkit:
    return make_toolkit(tmp_path / "node")


@pytest.fixture
def connecting(shared_sshd: Sshd, toolkit: LocalToolkit) -> Iterator[Connect]:
    """Connects and closes again; no thread, descriptor or agent may be left afterwards."""
    threads, descriptors = own_threads(), open_descriptors()
    nodes: list[UnverifiedNode] = []

    def connect_to(sshd: Sshd = shared_sshd, **options: float) -> UnverifiedNode:
        port = int(options.pop("port", 0)) or None
        options.setdefault("deadline_s", 10)
        address = sshd.address_with(sshd.host_key.public, port)
        nodes.append(connect(address, sshd.client_key.private, **options))
        return nodes[-1]

    yield connect_to
    for node in nodes:
        node.close()
        node.close()
    wait_for(lambda: own_threads() <= threads)
    wait_for(lambda: open_descriptors() <= descriptors)
    wait_for(lambda: not agent_pids(toolkit.workspace))


@pytest.fixture
def node(connecting: Connect, toolkit: LocalToolkit) -> UnverifiedNode:
    """A node whose agent runs and is not trusted."""
    node = connecting()
    node.start_agent(toolkit)
    return node


@pytest.fixture
def channel(node: UnverifiedNode) -> Iterator[TrustedChannel]:
    """A trusted channel to a node without jobs."""
    channel = trust(node, make_proof(node.host_key))
    yield channel
    channel.close()
