# SPDX-License-Identifier: GPL-2.0-or-later
"""Replacing a node's host key, as the journal sees it: first noted as coming, then adopted."""

import base64
import time
from pathlib import Path

import pytest

from mock_cloud.cloud.journal import Journal
from mock_cloud.cloud.lease import Holder, Lease, LeaseState
from mock_cloud.cloud.leased import LeasedNode
from mock_cloud.cloud.local.provider import LocalProvider
from mock_cloud.cloud.provider import host_key_files
from mock_cloud.errors import CloudError
from mock_cloud.model import KeyPair, NodeAddress
from mock_cloud.sshkeys import make_key_pair
from mock_cloud.wire.layout import HOST_KEY_FILE

BOOTSTRAP = make_key_pair()
NEXT = make_key_pair()


def lease_node(state_dir: Path) -> LeasedNode:
    journal = Journal(state_dir)
    given = {path: file.without_content() for path, file in host_key_files(BOOTSTRAP).items()}
    lease = Lease(
        id="a1",
        remote="cloud",
        owner="me@here:0",
        provider="local",
        settings="0" * 64,
        state=LeaseState.BUSY,
        created_unix=time.time(),
        expires_unix=time.time() + 100,
        idle_ttl_s=60.0,
        holder=Holder.me(),
        address=NodeAddress("127.1.2.3", 22, "root", BOOTSTRAP.public),
        injected=given,
        has_bootstrap_key=True,
    )
    with journal.transaction() as books:
        books.write(lease)
    journal.key_path("a1").write_bytes(b"client key")
    return LeasedNode(lease, journal, LocalProvider(state_dir, None), max_builds=5, adopted=False)


def stored(state_dir: Path) -> Lease:
    lease = Journal(state_dir).find("a1")
    assert lease is not None
    return lease


def digest_of(pair: KeyPair) -> str:
    return host_key_files(pair)[HOST_KEY_FILE].without_content().sha256


def test_a_coming_key_changes_nothing_until_it_is_adopted(tmp_path: Path) -> None:
    node = lease_node(tmp_path)
    node.record_next_host_key(NEXT)
    assert node.next_host_key == NEXT.public
    assert node.address.host_key == BOOTSTRAP.public
    found = stored(tmp_path)
    assert found.has_bootstrap_key
    assert found.injected[HOST_KEY_FILE].sha256 == digest_of(BOOTSTRAP)
    assert found.next_host_key is not None and found.next_host_key.key == NEXT.public


def test_an_adopted_key_is_the_only_one(tmp_path: Path) -> None:
    node = lease_node(tmp_path)
    node.record_next_host_key(NEXT)
    node.adopt_next_host_key()
    found = stored(tmp_path)
    assert found.address is not None
    assert node.address.host_key == found.address.host_key == NEXT.public
    assert not node.has_bootstrap_key and node.next_host_key is None
    assert found.injected[HOST_KEY_FILE].sha256 == digest_of(NEXT)
    assert found.injected[f"{HOST_KEY_FILE}.pub"].mode == 0o644
    node.adopt_next_host_key()
    assert stored(tmp_path) == found


def test_no_private_key_reaches_the_disk(tmp_path: Path) -> None:
    node = lease_node(tmp_path)
    node.record_next_host_key(NEXT)
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    node.adopt_next_host_key()
    kept += b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    assert str(NEXT.public).encode() in kept
    for pair in (BOOTSTRAP, NEXT):
        text = pair.private.reveal()
        for form in (*text.splitlines()[1:-1], base64.b64encode(text)[:100]):
            assert form not in kept


def test_who_lost_the_lease_changes_no_key(tmp_path: Path) -> None:
    node = lease_node(tmp_path)
    Journal(tmp_path).close("a1")
    with pytest.raises(CloudError, match="no longer ours"):
        node.record_next_host_key(NEXT)
