# SPDX-License-Identifier: GPL-2.0-or-later
"""A port of the node's loopback that ends here, over a real sshd; and what a node reaches."""

from __future__ import annotations

import os
import socket
import threading
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest

from mock_cloud.errors import ForwardingRefused, RemoteCommandError
from mock_cloud.remote import forward as forwarding
from mock_cloud.remote.forward import ForwardedStream
from mock_cloud.remote.trusted import TrustedChannel, trust
from mock_cloud.remote.unverified import UnverifiedNode
from mock_cloud.repoproxy.allow import FILES_HOST, AllowList
from mock_cloud.repoproxy.proxy import RepoProxy
from tests.component.conftest import Connect
from tests.component.remote_parts import LocalToolkit, make_proof, own_threads
from tests.lab.relay import Relay
from tests.lab.sshd import Sshd, SshdOptions
from tests.waiting import wait_for


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_files_through_the_tunnel(channel: TrustedChannel, tmp_path: Path) -> None:
    """Many clients at a time, more than are served side by side; nothing is left afterwards."""
    data = os.urandom(1 << 20)
    (tmp_path / "a.rpm").write_bytes(data)
    before = own_threads()
    proxy = RepoProxy(AllowList(directories=(tmp_path,)), pytest.fail)
    found: list[bytes] = []
    with closing(channel.forward(proxy.serve)) as forward:
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({"http": f"http://127.0.0.1:{forward.port}"})
        )

        def fetch() -> None:
            with opener.open(f"http://{FILES_HOST}{tmp_path}/a.rpm", timeout=600) as answer:
                found.append(answer.read())

        clients = [threading.Thread(target=fetch) for _ in range(forwarding.AT_ONCE + 8)]
        for one in clients:
            one.start()
        for one in clients:
            one.join()
        port = forward.port
    assert found == [data] * len(clients)
    assert not listens(port)
    forward.close()
    wait_for(lambda: own_threads() <= before)
    assert channel.ping() >= 0


def test_an_sshd_that_forwards_nothing_is_named(
    tmp_path: Path, toolkit: LocalToolkit, connecting: Connect
) -> None:
    with Sshd(tmp_path / "other", SshdOptions(extra="AllowTcpForwarding no")) as sshd:
        node = connecting(sshd)
        node.start_agent(toolkit)
        with closing(trust(node, make_proof(node.host_key))) as channel:
            before = own_threads()
            with pytest.raises(ForwardingRefused, match="forwards no port") as why:
                channel.forward(lambda stream: None)
            assert not why.value.retryable and "AllowTcpForwarding" in str(why.value.hint)
            assert own_threads() <= before
            assert channel.ping() >= 0  # nothing else is lost


def test_a_cut_connection_ends_who_serves(
    sshd: Sshd, connecting: Connect, toolkit: LocalToolkit
) -> None:
    with Relay((sshd.address.host, sshd.port)) as relay:
        node = connecting(sshd, port=relay.address[1])
        node.start_agent(toolkit)
        serving, ended = threading.Event(), threading.Event()

        def serve(stream: ForwardedStream) -> None:
            serving.set()
            try:
                while stream.recv(100):
                    pass
                stream.sendall(b"x")
            except OSError:
                pass
            ended.set()

        with closing(trust(node, make_proof(node.host_key))) as channel:
            forward = channel.forward(serve)
            with socket.create_connection(("127.0.0.1", forward.port)):
                assert serving.wait(10)
                relay.cut()
                assert ended.wait(10)
            forward.close()


def test_a_node_that_opens_too_many_connections_is_given_up(
    channel: TrustedChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarding, "AT_ONCE", 2)
    monkeypatch.setattr(forwarding, "WAITING_MAX", 8)
    release = threading.Event()
    forward = channel.forward(lambda stream: (release.wait(20), None)[1])
    clients = [socket.create_connection(("127.0.0.1", forward.port)) for _ in range(12)]
    try:
        wait_for(lambda: not channel._link.is_up)
    finally:
        release.set()
        for one in clients:
            one.close()
        forward.close()


def test_what_the_node_reaches(channel: TrustedChannel) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        ends = [("127.0.0.1", server.getsockname()[1]), ("127.0.0.1", bound.getsockname()[1]),
                ("no-such-host.invalid", 80), ("a" * 70, 80)]  # fmt: skip
        assert channel.find_reached(ends * 20, 3.0) == [True, False, False, False] * 20
    for bad in (("", 80), ("h", 0), ("h", 1 << 16), ("h" * 254, 80)):
        with pytest.raises(RemoteCommandError, match="an end is"):
            channel.find_reached([bad], 1.0)
    with pytest.raises(RemoteCommandError, match="too much time"):
        channel.find_reached([("127.0.0.1", 1)], 60.0)


def test_nothing_is_tried_before_trust(node: UnverifiedNode) -> None:
    _, agent, _ = node._hand_over()
    with pytest.raises(RemoteCommandError, match="before trust"):
        agent.ask("reach", within_s=60, ends=[["127.0.0.1", 22]], within_ms=100)
