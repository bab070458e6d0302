# SPDX-License-Identifier: GPL-2.0-or-later
"""What a sweep ends, and all that it must leave alone."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from mock_cloud.cloud.journal import Journal
from mock_cloud.cloud.lease import Holder, Lease, LeaseState, releasing
from mock_cloud.cloud.orphans import Reaped, find_due_leases, reap_provider
from mock_cloud.errors import CloudError
from tests.unit.cloud.cloud_in_memory import CloudInMemory, lease_of

DEAD = Holder(1, "another-boot/1")
BUSY = {"state": LeaseState.BUSY, "idle_since_unix": None}


class Site:
    """A journal and a cloud that belong together."""

    def __init__(self, state_dir: Path) -> None:
        self.journal = Journal(state_dir)
        self.cloud = CloudInMemory()
        self.owner = self.journal.owner

    def put(self, lease_id: str, *, node: bool = True, **changes: object) -> Lease:
        lease = lease_of(str(changes.pop("owner", self.owner)), lease_id, **changes)
        with self.journal.transaction() as books:
            books.write(lease)
        if node:
            self.cloud.add(lease_id, lease.owner)
        return lease

    def sweep(self, **options: bool) -> list[Reaped]:
        return reap_provider(
            self.journal, self.cloud, lambda lease: lease.remote == "ec2", **options
        )

    def state(self, lease_id: str) -> LeaseState:
        lease = self.journal.find(lease_id)
        assert lease is not None
        return lease.state


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def ended(swept: list[Reaped]) -> dict[str, str]:
    assert all(one.error is None for one in swept)
    return {one.lease_id: one.reason for one in swept}


# What is over


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"expires_unix": 1.0}, "expired"),
        ({"idle_since_unix": 1.0}, "idle"),
        ({"state": LeaseState.RELEASING}, "released"),
        ({**BUSY, "holder": DEAD, "idle_since_unix": 1.0}, "its controller died"),
        ({"state": LeaseState.CREATING, "holder": DEAD, "handle": ""}, "its creator died"),
        ({"state": LeaseState.INTENDED, "holder": DEAD, "handle": ""}, "its creator died"),
    ],
)
def test_a_lease_that_is_over_ends_with_its_node(
    site: Site, changes: dict[str, object], reason: str
) -> None:
    site.put("a1", **changes)
    assert ended(site.sweep()) == {"a1": reason}
    assert site.state("a1") is LeaseState.GONE and site.cloud.nodes == {}
    assert site.sweep() == []


def test_a_lease_whose_node_is_gone_is_closed(site: Site) -> None:
    site.put("a1", node=False)
    assert ended(site.sweep()) == {"a1": "its node is gone"}
    assert site.state("a1") is LeaseState.GONE


def test_an_orphan_of_ours_ends_running_or_not(site: Site) -> None:
    site.cloud.add("b1", site.owner)
    site.cloud.add("b2", site.owner, running=False)
    site.put("b3", state=LeaseState.GONE)  # ended, they thought
    assert set(ended(site.sweep())) == {"b1", "b2", "b3"}
    assert site.cloud.nodes == {}


def test_an_abandoned_lease_gets_its_grace_from_when_it_is_seen(site: Site) -> None:
    site.put("a1", **BUSY, holder=DEAD)
    assert site.sweep() == []
    lease = site.journal.find("a1")
    assert lease is not None and lease.idle_since_unix is not None


# What is not


def test_nothing_of_another_owner_is_so_much_as_asked_to_end(site: Site) -> None:
    me, word = site.owner.split("/")
    others = [
        "you@there:0/00000000",
        f"{me}/00000000",  # the same user and host, another state directory
        me,
        f"someone@renamed:0/{word}",
        "",
        f"{site.owner} ",
        site.owner.upper(),
    ]
    for number, other in enumerate(others):
        site.cloud.add(f"f{number}", other, expires_unix=1.0 if other == others[0] else 9e9)
        site.put(f"l{number}", owner=other or "x", node=False, expires_unix=1.0)
    assert site.sweep() == []
    assert site.sweep(with_lost_state=True) == []
    assert len(site.cloud.nodes) == len(others) and site.cloud.destroyed() == []


@pytest.mark.parametrize(
    "state", [LeaseState.BUSY, LeaseState.CREATING, LeaseState.INTENDED, LeaseState.RELEASING]
)
@pytest.mark.parametrize("node", [True, False])
def test_what_a_living_process_holds_is_left_alone(
    site: Site, state: LeaseState, node: bool
) -> None:
    site.put("a1", state=state, holder=Holder.me(), idle_since_unix=None, node=node)
    site.put("a2", state=state, holder=Holder.me(), expires_unix=1.0, node=node)
    assert site.sweep() == [] and site.cloud.destroyed() == []
    assert site.state("a1") is state and site.state("a2") is state


def test_an_idle_node_within_its_time_is_left_alone(site: Site) -> None:
    site.put("a1")
    assert site.sweep() == [] and site.state("a1") is LeaseState.READY


def test_a_node_that_the_listing_does_not_show_yet_is_left_alone(site: Site) -> None:
    site.put("a1")
    site.cloud.hidden.add("a1")
    assert site.sweep() == []
    assert site.cloud.calls[-1] == ("is_running", "a1")


def test_a_node_made_while_the_listing_was_made_is_left_alone(site: Site) -> None:
    """Its lease is journalled before it exists, and the journal is read after the listing."""
    site.cloud.add("a1", site.owner)
    site.cloud.on_list = lambda: _write(
        site, lease_of(site.owner, "a1", **BUSY, holder=Holder.me())
    )
    assert site.sweep() == [] and "a1" in site.cloud.nodes


def test_a_node_taken_while_the_listing_was_made_is_left_alone(site: Site) -> None:
    lease = site.put("a1", node=False)
    taken = replace(lease, state=LeaseState.BUSY, holder=Holder.me(), builds=1)
    site.cloud.on_list = lambda: _write(site, taken)
    assert site.sweep() == [] and site.state("a1") is LeaseState.BUSY


def test_a_node_of_another_remote_with_a_living_lease_is_left_alone(site: Site) -> None:
    site.put("a1", remote="other", expires_unix=1.0)
    assert site.sweep() == [] and "a1" in site.cloud.nodes


def test_a_dry_run_changes_nothing(site: Site) -> None:
    site.put("a1", expires_unix=1.0)
    site.put("a2", **BUSY, holder=DEAD)
    site.cloud.add("b1", site.owner)
    before = site.journal.leases()
    assert set(ended(site.sweep(dry_run=True))) == {"a1", "b1"}
    assert site.journal.leases() == before and site.cloud.destroyed() == []


# A state directory that was lost


def test_expired_nodes_of_a_lost_state_directory_end_on_request(site: Site) -> None:
    me, word = site.owner.split("/")
    now = time.time()
    kin = f"{me}/00000000"
    site.cloud.add("k1", kin, expires_unix=now - 700)
    site.cloud.add("k2", kin, expires_unix=now - 500)  # clocks may differ by so much
    site.cloud.add("k3", kin, expires_unix=now + 500)
    site.cloud.add("k4", kin, expires_unix=None)
    site.cloud.add("k5", f"me@renamed:0/{word}", expires_unix=now - 700)
    site.cloud.add("k6", "you@there:0/00000000", expires_unix=now - 700)
    assert site.sweep() == []
    assert set(ended(site.sweep(with_lost_state=True))) == {"k1", "k5"}
    assert sorted(site.cloud.nodes) == ["k2", "k3", "k4", "k6"]


# An API that fails


def test_what_could_not_be_ended_is_reported_and_tried_again(site: Site) -> None:
    site.put("a1", expires_unix=1.0)
    site.cloud.on_list = lambda: setattr(site.cloud, "is_out", True)
    (swept,) = site.sweep()
    assert swept.error == "the API is out"
    lease = site.journal.find("a1")
    assert lease is not None and lease.state is LeaseState.RELEASING and not lease.held
    assert (lease.end_attempts, lease.end_problem) == (1, "the API is out")
    with pytest.raises(CloudError):
        site.sweep()
    site.cloud.is_out, site.cloud.on_list = False, lambda: None
    assert ended(site.sweep()) == {"a1": "released"}


# Without asking anybody


def test_due_leases_are_found_in_the_journal_alone(site: Site) -> None:
    site.put("a1", expires_unix=1.0)
    site.put("a2")
    site.put("a3", expires_unix=1.0, owner="you@there:0/00000000")
    site.put("a4", **BUSY, holder=Holder.me())
    site.put("a5", state=LeaseState.CREATING, holder=DEAD, handle="")
    site.put("a6", provider="local", expires_unix=1.0)
    found = {one.lease_id: one.reason for one in find_due_leases(site.journal.state_dir)}
    assert found == {"a1": "expired", "a5": "its creator died"}
    assert site.cloud.calls == []


def test_what_failed_just_now_is_not_tried_with_every_command(site: Site) -> None:
    lease = site.put("a1", state=LeaseState.RELEASING, end_attempts=3)
    for ago, due in ((60.0, False), (119.0, False), (121.0, True), (-5000.0, True)):
        _write(site, replace(lease, end_tried_unix=time.time() - ago))
        assert bool(find_due_leases(site.journal.state_dir)) is due, ago


def test_what_another_process_is_ending_is_left_to_it(site: Site) -> None:
    lease = site.put("a1")
    _write(site, releasing(lease))
    assert find_due_leases(site.journal.state_dir) == []


def _write(site: Site, lease: Lease) -> None:
    with site.journal.transaction() as books:
        books.write(lease)
