# SPDX-License-Identifier: GPL-2.0-or-later
"""Whoever sets this machine's clock ends no node with it, and lets none live longer."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mock_cloud.cloud.journal import Journal
from mock_cloud.cloud.lease import Holder, LeaseState
from mock_cloud.cloud.leased import LeasedNode
from mock_cloud.cloud.local.plan import NodePlan
from mock_cloud.cloud.local.supervisor import Supervisor
from mock_cloud.model import NodeAddress
from mock_cloud.sshkeys import make_key_pair
from tests.unit.cloud.cloud_in_memory import CloudInMemory, lease_of

DAY_S = 86400.0
_time = time.time


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the wall clock by so much, for this process; what passes since the boot goes on."""

    def set_it(by_s: float) -> None:
        monkeypatch.setattr(time, "time", lambda: _time() + by_s)

    return set_it


@pytest.mark.parametrize("by_s", [DAY_S, -DAY_S])
def test_a_node_at_work_lives_as_long_as_before(
    tmp_path: Path, set_clock: Callable[[float], None], by_s: float
) -> None:
    journal = Journal(tmp_path)
    busy = lease_of(journal.owner, "a1", state=LeaseState.BUSY, holder=Holder.me())
    with journal.transaction() as books:
        books.write(busy)
    supervisor = _supervisor(tmp_path)
    assert supervisor._find_reason() is None
    set_clock(by_s)
    assert supervisor._find_reason() is None
    now = journal.find("a1")
    assert now is not None and abs(now.expires_unix - busy.expires_unix - by_s) < 5
    set_clock(by_s + 5)  # less is no step
    assert supervisor._find_reason() is None
    assert journal.find("a1") == now
    with journal.transaction() as books:
        books.write(lease_of(journal.owner, "a1", expires_unix=time.time() - 1))
    assert supervisor._find_reason() == "expired"


@pytest.mark.parametrize("by_s", [DAY_S, -DAY_S])
def test_an_idle_node_is_idle_for_as_long_as_before(
    tmp_path: Path, set_clock: Callable[[float], None], by_s: float
) -> None:
    journal = Journal(tmp_path)
    with journal.transaction() as books:
        books.write(lease_of(journal.owner, "a1", idle_ttl_s=600.0))
    supervisor = _supervisor(tmp_path)
    set_clock(by_s)
    assert supervisor._find_reason() is None
    with journal.transaction() as books:
        books.write(lease_of(journal.owner, "a1", idle_ttl_s=0.0))
    assert supervisor._find_reason() == "idle"


def test_whoever_waits_for_a_node_waits_as_long_as_it_lives(
    tmp_path: Path, set_clock: Callable[[float], None]
) -> None:
    journal = Journal(tmp_path)
    address = NodeAddress("192.0.2.1", 22, "root", make_key_pair().public)
    lease = lease_of(journal.owner, "aa", address=address)
    journal.key_path("aa").write_text("key")
    leased = LeasedNode(lease, journal, CloudInMemory(), max_builds=1, adopted=False)
    assert leased.expires_unix == lease.expires_unix
    set_clock(DAY_S)
    assert abs(leased.expires_unix - lease.expires_unix - DAY_S) < 5


def _supervisor(state_dir: Path) -> Supervisor:
    """Of the lease a1; its node is never booted."""
    return Supervisor(
        NodePlan(
            lease_id="a1",
            owner="me@here:0",
            state_dir=str(state_dir),
            image="/nowhere",
            hostname="node-a1",
            address="127.9.9.9",
            port=22,
            disk_mib=0,
            boot_timeout_s=5.0,
            resolv_conf="",
            client_key="",
            host_public_key="",
            host_key="",
        )
    )
