# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands beside each other on one leased node: who gets in, and who gives it back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mock_cloud.cloud.journal import Journal
from mock_cloud.cloud.lease import Lease, LeaseState
from mock_cloud.cloud.leased import LeasedNode
from mock_cloud.errors import ChrootLocked, CloudError
from tests.component.cloud_nodes import Site, holding, killed

pytestmark = pytest.mark.lab
pytest_plugins = ["tests.component.cloud_fixtures"]


def row(site: Site) -> Lease:
    (lease,) = Journal(site.state_dir).leases()
    return lease


@contextmanager
def joined(site: Site) -> Iterator[LeasedNode]:
    with site.acquire("one", shares=True) as node:
        assert node.beside == "job-1"
        yield node


def test_a_command_that_shares_joins_the_one_at_work(site: Site, tmp_path: Path) -> None:
    other = holding(site, tmp_path / "other")
    with joined(site) as node:
        assert (node.builds, node.verdict.sha256) == (1, "ab")
        assert "uid=0" in site.ssh(node, "id")
        node.record_layers({"/guest": "bb"})
    lease = row(site)
    assert lease.state is LeaseState.BUSY
    assert lease.holder is not None and lease.holder.pid == other.pid
    other.end("")
    assert row(site).state is LeaseState.READY
    assert row(site).layers == {"/guest": "bb", "/holder": "aa"}


@pytest.mark.parametrize("shares", [True, False])
def test_nobody_joins_a_command_that_lets_nobody_in(
    site: Site, tmp_path: Path, shares: bool
) -> None:
    other = holding(site, tmp_path / "other", job="" if shares else "job-1")
    with pytest.raises(ChrootLocked):
        site.acquire("one", shares=shares)
    killed(other.pid)


def test_nobody_joins_on_a_node_of_other_settings(site: Site, tmp_path: Path) -> None:
    other = holding(site, tmp_path / "other")
    with pytest.raises(ChrootLocked):
        site.acquire("one", shares=True, disk_mib=64)
    killed(other.pid)


def test_the_last_command_gives_the_node_back(site: Site, tmp_path: Path) -> None:
    """And knows what the others ran there."""
    other = holding(site, tmp_path / "other")
    with joined(site) as node:
        node.let_others_in("job-2")
        other.end("foreign")
        lease = row(site)
        assert lease.state is LeaseState.BUSY
        assert lease.holder is not None and lease.holder.pid == os.getpid()
        assert (lease.sharing.job, lease.sharing.guests) == ("job-2", ())
        left = node.leave()
        assert left is not None and left.foreign
        assert not row(site).is_shared  # nobody comes while the last one tidies up
    assert row(site).state is LeaseState.READY


def test_a_guest_is_not_the_last(site: Site, tmp_path: Path) -> None:
    other = holding(site, tmp_path / "other")
    with joined(site) as node:
        assert node.leave(foreign=True) is None
        assert node.leave() is None
        assert row(site).sharing.foreign
    other.end("")
    assert row(site).sharing.foreign is False  # the last one has been told


def test_a_guests_failure_leaves_the_node(site: Site, tmp_path: Path) -> None:
    other = holding(site, tmp_path / "other")
    with pytest.raises(KeyError), joined(site):
        raise KeyError
    assert row(site).state is LeaseState.BUSY
    other.end("")
    assert row(site).state is LeaseState.READY


def test_a_node_that_failed_its_holder_ends_with_the_last_guest(site: Site, tmp_path: Path) -> None:
    other = holding(site, tmp_path / "other")
    with joined(site) as node:
        other.end("fail")
        assert "uid=0" in site.ssh(node, "id")
    assert site.nodes() == []


def test_a_guest_that_was_killed_is_left_to_the_last(site: Site, tmp_path: Path) -> None:
    holder = holding(site, tmp_path / "holder")
    with joined(site) as node:
        guest = holding(site, tmp_path / "guest", job="job-3", shares=True)
        killed(guest.pid)
        holder.end("")
        left = node.leave()
        assert left is not None
        assert [one.job for one in left.guests] == ["job-3"]
    assert row(site).sharing.guests == ()


def test_a_holder_that_was_killed_leaves_a_node_that_nobody_uses_again(
    site: Site, tmp_path: Path
) -> None:
    """As without a guest: its job may run there still."""
    holder = holding(site, tmp_path / "holder")
    with joined(site):
        killed(holder.pid)
        assert row(site).held and not row(site).abandoned
        with pytest.raises(ChrootLocked):
            site.acquire("one", shares=True)
    assert row(site).abandoned
    with site.acquire("one", shares=True) as node:
        assert node.adopted and not node.beside
        node.destroy()
    assert site.nodes() == []


def test_a_guest_of_a_node_that_was_taken_away_can_note_nothing(site: Site, tmp_path: Path) -> None:
    holder = holding(site, tmp_path / "holder")
    with joined(site) as node:
        killed(holder.pid)
        journal = Journal(site.state_dir)
        journal.close(node.lease_id)
        with pytest.raises(CloudError, match="no longer ours"):
            node.record_layers({})
        node.destroy()
