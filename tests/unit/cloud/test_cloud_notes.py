# SPDX-License-Identifier: GPL-2.0-or-later
"""What a command notes of its node in one step; and leaving a node twice."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from mock_cloud.cloud.journal import Journal
from mock_cloud.cloud.lease import Holder, Lease, LeaseState
from mock_cloud.cloud.leased import LeasedNode
from mock_cloud.errors import CloudError
from mock_cloud.model import NodeAddress
from mock_cloud.sshkeys import make_key_pair
from tests.unit.cloud.cloud_in_memory import CloudInMemory, lease_of


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path)


@pytest.fixture
def leased(journal: Journal) -> LeasedNode:
    lease = lease_of(
        journal.owner,
        "aa",
        address=NodeAddress("192.0.2.1", 22, "root", make_key_pair().public),
        state=LeaseState.BUSY,
        holder=Holder.me(),
        idle_ttl_s=60.0,
        expires_unix=time.time() + 100,
    )
    with journal.transaction() as books:
        books.write(lease)
    journal.key_path("aa").write_text("key")
    return LeasedNode(lease, journal, CloudInMemory(), max_builds=5, adopted=False)


def row(journal: Journal) -> Lease:
    found = journal.find("aa")
    assert found is not None
    return found


def test_what_is_noted_together_is_written_at_the_end(journal: Journal, leased: LeasedNode) -> None:
    with leased.noting_together():
        leased.record_layers({"/layer": "ab" * 32})
        leased.record_chroots(["one"])
        assert row(journal).chroots == ()
    assert row(journal).chroots == leased.chroots == ("one",)
    assert row(journal).layers == {"/layer": "ab" * 32}
    leased.record_chroots(["two"])
    assert row(journal).chroots == ("two",)


def test_nothing_is_written_of_what_broke_off(journal: Journal, leased: LeasedNode) -> None:
    with pytest.raises(ValueError, match="broke"), leased.noting_together():
        leased.record_chroots(["one"])
        raise ValueError("it broke off")
    assert row(journal).chroots == leased.chroots == ()
    leased.reserve("two")
    assert row(journal).reserved == "two"
    assert row(journal).chroots == ()


def test_nothing_is_written_of_a_node_that_was_lost(journal: Journal, leased: LeasedNode) -> None:
    with journal.transaction() as books:
        books.write(lease_of(journal.owner, "aa", state=LeaseState.RELEASING))
    with pytest.raises(CloudError, match="no longer ours"), leased.noting_together():
        leased.record_chroots(["one"])
    assert row(journal).chroots == ()


def test_leaving_twice_is_leaving_once(journal: Journal, leased: LeasedNode) -> None:
    leased.let_others_in("job")
    first = leased.leave()
    assert first is not None
    assert row(journal).sharing.job == ""
    assert leased.leave() == first
    later = leased.leave(foreign=True)
    assert later is not None
    assert later.foreign
    assert row(journal).sharing.foreign
    leased.release(keep=True)
    assert row(journal).state is LeaseState.READY
    assert leased.leave() is None
