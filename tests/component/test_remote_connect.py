# SPDX-License-Identifier: GPL-2.0-or-later
"""Reaching a real sshd: which host key is taken, what is retried, what is given up."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import pytest

from mock_cloud.errors import ConfigError, HostKeyMismatch, TransportError
from mock_cloud.model import NodeAddress, Secret
from mock_cloud.remote.connect import connect
from mock_cloud.sshkeys import make_key_pair
from tests.component.conftest import Connect
from tests.component.remote_parts import open_descriptors, own_threads
from tests.lab.relay import Relay
from tests.lab.sshd import Sshd, SshdOptions, make_host_key
from tests.waiting import wait_for


def test_the_pinned_key_is_accepted_and_shown(connecting: Connect, shared_sshd: Sshd) -> None:
    node = connecting()
    assert node.host_key == shared_sshd.host_key.public


def test_another_host_key_is_refused_before_authentication(sshd: Sshd) -> None:
    other = make_key_pair().public
    threads, descriptors, began = own_threads(), open_descriptors(), time.monotonic()
    with pytest.raises(HostKeyMismatch) as caught:
        connect(sshd.address_with(other), sshd.client_key.private, deadline_s=300)
    assert time.monotonic() - began < 200, "a mismatch must not be retried"
    assert other.fingerprint in caught.value.message
    assert sshd.host_key.public.fingerprint in caught.value.message
    assert caught.value.exit_code == 77
    assert "publickey" not in sshd.log
    wait_for(lambda: own_threads() <= threads)
    wait_for(lambda: open_descriptors() <= descriptors)


def test_no_other_key_type_is_taken_instead(tmp_path: Path) -> None:
    """The pinned key is ed25519; the server has that and RSA, but only RSA is ours to pin."""
    rsa_path, rsa = make_host_key(tmp_path, "rsa")
    ecdsa_path, ecdsa = make_host_key(tmp_path, "ecdsa")
    with Sshd(tmp_path / "sshd", extra_host_keys=(rsa_path,)) as sshd:
        node = connect(sshd.address_with(rsa), sshd.client_key.private, deadline_s=10)
        assert node.host_key == rsa
        node.close()
        with pytest.raises(HostKeyMismatch, match="no host key of that type"):
            connect(sshd.address_with(ecdsa), sshd.client_key.private, deadline_s=10)
    assert ecdsa_path.exists()


def test_a_refused_client_key_is_retried_until_the_deadline(sshd: Sshd) -> None:
    began = time.monotonic()
    with pytest.raises(TransportError, match="our key: refused for root") as caught:
        connect(sshd.address, make_key_pair().private, deadline_s=1.0)
    assert time.monotonic() - began > 0.5
    assert caught.value.hint and "cloud-init" in caught.value.hint
    # Two at once and the last one: OpenSSH 9.8 and later turns away who is refused more often.
    assert sshd.log.count("Connection closed by authenticating user") <= 3, sshd.log
    assert "Connection closed by authenticating user" in sshd.log


@pytest.mark.fault(13)
def test_a_key_that_is_authorized_during_boot_gets_in(tmp_path: Path) -> None:
    with Sshd(tmp_path / "sshd", SshdOptions(authorized=False)) as sshd:
        timer = threading.Timer(0.7, sshd.authorize)
        timer.start()
        node = connect(sshd.address, sshd.client_key.private, deadline_s=10)
        node.close()
        timer.join()
        assert "Failed publickey" in sshd.log


def test_a_port_that_opens_later_is_waited_for(shared_sshd: Sshd) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(TransportError, match=r"no SSH within 0\.5 s: cannot connect") as caught:
        connect(
            shared_sshd.address_with(shared_sshd.host_key.public, port),
            shared_sshd.client_key.private,
            deadline_s=0.5,
        )
    assert caught.value.retryable


def test_a_server_that_says_nothing_is_given_up(shared_sshd: Sshd) -> None:
    threads, descriptors = own_threads(), open_descriptors()
    with Relay(("127.0.0.1", shared_sshd.port)) as relay:
        relay.freeze()
        with pytest.raises(TransportError, match="no SSH within"):
            connect(
                shared_sshd.address_with(shared_sshd.host_key.public, relay.address[1]),
                shared_sshd.client_key.private,
                deadline_s=1.5,
            )
    wait_for(lambda: own_threads() <= threads)
    wait_for(lambda: open_descriptors() <= descriptors)


def test_a_server_that_is_not_ssh_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        stop = threading.Event()

        def answer() -> None:
            server.settimeout(0.1)
            while not stop.is_set():
                try:
                    peer, _ = server.accept()
                except TimeoutError:
                    continue
                peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                peer.close()

        thread = threading.Thread(target=answer)
        thread.start()
        pair = make_key_pair()
        address = NodeAddress("127.0.0.1", server.getsockname()[1], "root", pair.public)
        try:
            with pytest.raises(TransportError, match="SSH handshake failed"):
                connect(address, pair.private, deadline_s=1)
        finally:
            stop.set()
            thread.join()


def test_an_unusable_client_key_is_a_configuration_error(shared_sshd: Sshd) -> None:
    with pytest.raises(ConfigError):
        connect(shared_sshd.address, Secret(b"not a key"), deadline_s=1)
