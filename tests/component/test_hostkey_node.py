# SPDX-License-Identifier: GPL-2.0-or-later
"""Replacing the host key of a real node, with its real sshd, also when that is cut short."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest

from mock_cloud.cloud.leased import LeasedNode
from mock_cloud.console import Console
from mock_cloud.errors import HostKeyMismatch, RemoteCommandError
from mock_cloud.model import HostKey, KeyPair, Secret, Toolkit
from mock_cloud.remote.connect import connect
from mock_cloud.remote.hardening_requests import Request, replace_host_key
from mock_cloud.remote.trusted import TrustedChannel, trust
from mock_cloud.sshkeys import make_key_pair
from mock_cloud.steps.attest.hardening import Hardening, hardened, plan_hardening
from mock_cloud.steps.lease.node import connect_leased
from tests.component.cloud_nodes import Site, eventually
from tests.component.remote_parts import make_proof, own_threads

pytest_plugins = ["tests.component.cloud_fixtures"]
pytestmark = pytest.mark.lab

# A local node has this machine's network, which must stay as it is.
HARDENING = Hardening(
    power_off=True, close_metadata=False, replace_host_key=True, renew_host_key=True
)
KEY = "/etc/ssh/ssh_host_ed25519_key"


@pytest.fixture
def leased(site: Site) -> LeasedNode:
    return site.acquire()


@pytest.fixture
def channel(leased: LeasedNode, packed_toolkit: Toolkit) -> Iterator[TrustedChannel]:
    with closing(connect(leased.address, leased.client_key, deadline_s=10)) as node:
        node.start_agent(packed_toolkit)
        yield trust(node, make_proof(node.host_key))


def answers(leased: LeasedNode, key: KeyPair) -> bool:
    """Whether the node shows this host key."""
    try:
        address = replace(leased.address, host_key=key.public)
        connect(address, leased.client_key, deadline_s=5).close()
    except HostKeyMismatch:
        return False
    return True


HEAD = b"-----BEGIN OPENSSH PRIVATE KEY-----\n"
NO_PAIRS = [
    (b"", "ssh-ed25519 AAAA\n"),
    (b"-----BEGIN RSA PRIVATE KEY-----\n", "ssh-ed25519 AAAA\n"),
    (HEAD + b"x" * 5000, "ssh-ed25519 AAAA\n"),
    (HEAD, "ssh-ed25519 AAAA"),
    (HEAD, "ssh-rsa AAAA\n"),
    (HEAD, "ssh-ed25519 AAAA\nssh-ed25519 BBBB\n"),
]


@pytest.mark.slow
def test_what_is_no_key_pair_changes_nothing(
    site: Site, leased: LeasedNode, channel: TrustedChannel
) -> None:
    before = site.ssh(leased, "ls -l /etc/ssh")
    for body, public in NO_PAIRS:
        with pytest.raises(RemoteCommandError, match="not a"):
            channel.harden(Request("host_key", {"public": public}, Secret(body)))
    assert site.ssh(leased, "ls -l /etc/ssh") == before


def test_killed_before_the_node_has_it_the_old_key_still_opens(
    site: Site, leased: LeasedNode
) -> None:
    old = leased.address.host_key
    leased.record_next_host_key(make_key_pair())
    connect_leased(leased, site.remote()).close()
    assert leased.address.host_key == old and leased.next_host_key is not None


def test_killed_after_the_node_has_it_the_new_key_opens_and_is_adopted(
    site: Site, leased: LeasedNode, channel: TrustedChannel
) -> None:
    pair = make_key_pair()
    leased.record_next_host_key(pair)
    assert channel.harden(replace_host_key(pair)) == []
    eventually(lambda: answers(leased, pair))
    connect_leased(leased, site.remote()).close()
    assert leased.address.host_key == pair.public and leased.next_host_key is None
    facts = site.ssh(
        leased, f"stat -c '%a %u %g %s' {KEY} {KEY}.pub; sha256sum < {KEY}; ls /etc/ssh"
    )
    private, public, digest, *names = facts.splitlines()
    given = leased.injected[KEY]
    assert private == f"600 0 0 {given.size_bytes}"
    assert public.startswith("644 0 0 ")
    assert digest.split()[0] == given.sha256
    assert not [name for name in names if name.endswith(".mock-cloud")]


def test_any_other_key_is_refused(site: Site, leased: LeasedNode, channel: TrustedChannel) -> None:
    leased.record_next_host_key(make_key_pair())
    stranger = make_key_pair()
    channel.harden(replace_host_key(stranger))
    eventually(lambda: answers(leased, stranger))
    with pytest.raises(HostKeyMismatch):
        connect_leased(leased, site.remote())


@pytest.mark.slow
def test_a_node_that_keeps_its_old_key_serves_this_once(
    site: Site, leased: LeasedNode, channel: TrustedChannel
) -> None:
    site.ssh(leased, "mount --bind /etc/ssh /etc/ssh && mount -o remount,ro,bind /etc/ssh")
    said, threads = io.StringIO(), own_threads()
    with hardened(channel, leased, HARDENING, Console(0, said)):
        assert channel.ping() > 0
    assert "is not used again: " in said.getvalue() and "Read-only" in said.getvalue()
    assert site.nodes() == []
    assert own_threads() <= threads


def test_who_is_interrupted_leaves_both_keys_in_the_journal_and_no_thread(
    site: Site, leased: LeasedNode, channel: TrustedChannel
) -> None:
    threads = own_threads()
    quiet = Console(0, io.StringIO())
    with (
        pytest.raises(KeyboardInterrupt),
        hardened(channel, leased, HARDENING, quiet),
    ):
        raise KeyboardInterrupt
    assert own_threads() <= threads
    eventually(lambda: connect_leased(leased, site.remote()).close() is None)


def test_a_key_is_renewed_as_often_as_it_is_asked_for(
    site: Site, leased: LeasedNode, channel: TrustedChannel
) -> None:
    quiet = Console(0, io.StringIO())
    with hardened(channel, leased, HARDENING, quiet) as keys:
        # At once: the key that the node was told to take first is not proven yet.
        keys.renew()
        first = leased.address.host_key
        keys.renew()
        second = leased.address.host_key
    assert first != second and leased.next_host_key is None
    assert HostKey.parse(site.ssh(leased, f"cat {KEY}.pub")) == second
    with pytest.raises(HostKeyMismatch):
        address = replace(leased.address, host_key=first)
        connect(address, leased.client_key, deadline_s=5)
    connect_leased(leased, site.remote()).close()


@pytest.mark.slow
def test_a_node_that_keeps_the_key_that_foreign_code_saw_is_not_used_again(
    site: Site, leased: LeasedNode, channel: TrustedChannel
) -> None:
    said = io.StringIO()
    only_after = replace(HARDENING, replace_host_key=False)
    with hardened(channel, leased, only_after, Console(0, said)) as keys:
        site.ssh(leased, "mount --bind /etc/ssh /etc/ssh && mount -o remount,ro,bind /etc/ssh")
        keys.renew()
        assert site.nodes() == []
        keys.renew()
    assert said.getvalue().count("is not used again: ") == 1


def test_a_local_node_is_left_as_it_is(leased: LeasedNode) -> None:
    assert plan_hardening("local", leased) is None
    lent, ours = plan_hardening("ssh", leased), plan_hardening("ec2", leased)
    assert lent == Hardening(
        power_off=False, close_metadata=False, replace_host_key=False, renew_host_key=False
    )
    assert ours == Hardening(
        power_off=True, close_metadata=True, replace_host_key=False, renew_host_key=True
    )
