# SPDX-License-Identifier: GPL-2.0-or-later
"""From an intention to a node: journalled at each step, within the budget, undone if it fails."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from mock_cloud.cloud import listing
from mock_cloud.cloud.apis.texts import CloudIsOut, OutcomeUnknown
from mock_cloud.cloud.budget import BudgetReached, account, day_start
from mock_cloud.cloud.claim import LeaseRequest
from mock_cloud.cloud.journal import Journal
from mock_cloud.cloud.lease import Lease, LeaseState
from mock_cloud.cloud.listing import list_budgets, list_rows, release
from mock_cloud.cloud.making import find_price, intend, make_node
from mock_cloud.cloud.provider import Bootstrap, CreatedNode, NodeOrder
from mock_cloud.errors import CloudError, ConfigError
from mock_cloud.settings import AttestSettings, Budget, LeaseLimits, Remote
from tests.unit.cloud.cloud_in_memory import CloudInMemory, lease_of

HOUR = 3600.0


def remote(per_day: float | None = None, **limits: float) -> Remote:
    return Remote(
        name="ec2",
        provider="ec2",
        arches=("x86_64",),
        attest=AttestSettings(Path("/nowhere"), (), ()),
        lease=LeaseLimits(**limits),  # type: ignore[arg-type]
        budget=None if per_day is None else Budget(per_day),
        source=Path("/etc/mock/remotes.d/ec2.toml"),
    )


def wish(journal: Journal) -> LeaseRequest:
    return LeaseRequest(
        "f40",
        arch="x86_64",
        fresh=True,
        remote="ec2",
        owner=journal.owner,
        settings="s",
        max_nodes=9,
    )


def intended(journal: Journal, settings: Remote, price: float | None = 1.0) -> Lease:
    with journal.transaction() as books:
        lease = intend(books, settings, wish(journal), price)
        books.write(lease)
        return lease


class Refusing(CloudInMemory):
    """Takes the order, then fails."""

    def create(self, order: NodeOrder, bootstrap: Bootstrap, **more: object) -> CreatedNode:
        super().create(order, bootstrap, **more)
        raise CloudError("no room")


def test_a_node_is_journalled_before_it_is_asked_for(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    seen = []

    class Watching(CloudInMemory):
        def create(self, order: NodeOrder, bootstrap: Bootstrap, **more: object) -> CreatedNode:
            on_handle = more["on_handle"]
            assert callable(on_handle)
            seen.append(journal.find(order.lease_id))
            on_handle("i-early")
            seen.append(journal.find(order.lease_id))
            return super().create(order, bootstrap, **more)

    cloud = Watching()
    lease = intended(journal, remote())
    made = make_node(lease, journal, cloud, 10.0, lambda phase: None)
    before, early = seen
    assert before is not None and (before.state, before.handle) == (LeaseState.CREATING, "")
    assert early is not None and early.handle == "i-early"
    assert journal.find(lease.id) == made and made.state is LeaseState.BUSY
    node = cloud.nodes[lease.id]
    assert node.expires_unix == made.expires_unix == lease.expires_unix
    assert (made.price_per_hour, made.arch) == (1.0, "x86_64")


def test_what_was_begun_is_undone(tmp_path: Path) -> None:
    journal, cloud = Journal(tmp_path), Refusing()
    lease = intended(journal, remote())
    with pytest.raises(CloudError, match="no room"):
        make_node(lease, journal, cloud, 10.0, lambda phase: None)
    assert cloud.nodes == {} and journal.leases() == []
    assert not journal.key_path(lease.id).exists()


def test_what_cannot_be_undone_hides_no_failure_and_stays_in_the_journal(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    cloud = Refusing(is_out=True)
    lease = intended(journal, remote())
    with pytest.raises(CloudError, match="no room"):
        make_node(lease, journal, cloud, 10.0, lambda phase: None)
    (left,) = journal.leases()
    assert (left.id, left.state, left.end_problem) == (
        lease.id,
        LeaseState.RELEASING,
        "the API is out",
    )


@pytest.mark.parametrize(
    ("error", "handle", "is_kept"),
    [
        (ConfigError("no credentials"), "", False),
        (CloudIsOut("no connection"), "", False),
        (OutcomeUnknown("no answer"), "", True),
        (CloudError("no room"), "", True),
        (ConfigError("no credentials any more"), "i-1", True),
        (CloudIsOut("no connection any more"), "i-1", True),
    ],
    ids=lambda value: str(value).replace(" ", "-"),
)
def test_a_lease_is_kept_if_anything_may_have_been_made(
    tmp_path: Path, error: Exception, handle: str, is_kept: bool
) -> None:
    """Nobody can be asked to end it: what stays counts as a node for hours."""

    class Failing(CloudInMemory):
        def create(self, order: NodeOrder, bootstrap: Bootstrap, **more: object) -> CreatedNode:
            on_handle = more["on_handle"]
            assert callable(on_handle)
            if handle:
                on_handle(handle)
            raise error

    journal = Journal(tmp_path)
    lease = intended(journal, remote())
    with pytest.raises(type(error), match=str(error)):
        make_node(lease, journal, Failing(is_out=True), 10.0, lambda phase: None)
    assert bool(journal.leases()) is is_kept
    assert journal.key_path(lease.id).exists() is is_kept


# Budgets


def test_the_order_is_for_no_longer_than_the_budget_allows(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    lease = intended(journal, remote(per_day=1.0, max_ttl_s=8 * HOUR), price=0.5)
    life_s = lease.expires_unix - lease.created_unix
    today_left_s = day_start(lease.created_unix) + 86400 - lease.created_unix
    # A dollar buys two hours of each day that the node's life touches.
    assert life_s == pytest.approx(
        2 * HOUR if today_left_s >= 2 * HOUR else today_left_s + 2 * HOUR
    )


def test_without_a_budget_nobody_asks_for_a_price(tmp_path: Path) -> None:
    lease = intended(Journal(tmp_path), remote(), price=None)
    assert lease.expires_unix - lease.created_unix == pytest.approx(4 * HOUR)


def test_a_budget_without_a_price_names_the_setting() -> None:
    cloud = CloudInMemory(price=None)
    with pytest.raises(ConfigError, match=r"ec2\.toml") as caught:
        find_price(remote(per_day=1.0), cloud, "aarch64")
    assert "price_per_hour in [node.aarch64]" in (caught.value.hint or "")


def test_many_controllers_together_spend_no_more_than_the_budget(tmp_path: Path) -> None:
    settings = remote(per_day=2.0, max_ttl_s=0.5 * HOUR)
    granted: list[Lease] = []
    refused: list[BudgetReached] = []

    def controller() -> None:
        for _ in range(3):
            try:
                granted.append(intended(Journal(tmp_path), settings, price=1.0))
            except BudgetReached as error:
                refused.append(error)

    threads = [threading.Thread(target=controller) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    now = time.time()
    days = {day_start(now), day_start(now + 0.5 * HOUR)}
    for day in days:
        sums = account(granted, now, day_unix=day, price_if_unknown=0.0)
        assert sums.committed <= 2.0 + 1e-6
    assert len(granted) + len(refused) == 18 and len(refused) >= 18 - 4 * len(days) - 1
    (row,) = list_budgets(tmp_path, {"ec2": settings.budget or Budget(0.0)})
    assert row.left < 0.2 or len(days) == 2


def test_a_node_that_was_given_back_frees_what_it_had_reserved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noon = day_start(time.time()) + 12 * HOUR  # late in the evening little of a day is reserved
    monkeypatch.setattr(time, "time", lambda: noon)
    journal, settings = Journal(tmp_path), remote(per_day=1.0, max_ttl_s=12 * HOUR)
    lease = intended(journal, settings)
    with pytest.raises(BudgetReached):
        intended(journal, settings)
    journal.close(lease.id)
    intended(journal, settings)


def test_a_listing_shows_what_a_node_costs(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    lease = intended(journal, remote())
    make_node(lease, journal, CloudInMemory(price=36.0), 10.0, lambda phase: None)
    time.sleep(0.05)
    (row,) = list_rows(tmp_path)
    assert row.price_per_hour == 36.0 and row.cost is not None and 0.0004 < row.cost < 0.1
    assert row.to_json()["arch"] == "x86_64"


# Giving back without the remote's file


def test_release_names_whose_credentials_are_needed(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    with journal.transaction() as books:
        books.write(lease_of(journal.owner, "a1"))

    def lost(name: str) -> Remote:
        raise ConfigError(f"no remote {name!r}")

    (refused,) = release(tmp_path, "ec2", lost)
    assert refused.problem is not None
    for part in ("no remote 'ec2'", "ec2 credentials are needed", "ends by itself at"):
        assert part in refused.problem
    (lease,) = journal.leases()
    assert lease.state is LeaseState.READY


def test_release_asks_no_other_provider_than_the_nodes_own(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    with journal.transaction() as books:
        books.write(lease_of(journal.owner, "a1", provider="openstack"))
    (refused,) = release(tmp_path, "a1", lambda name: remote())
    assert refused.problem is not None and "is for provider ec2 now" in refused.problem


def test_nodes_are_ended_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each waits for the others to be asked for before it ends."""
    journal, together = Journal(tmp_path), threading.Barrier(3)

    class Slow(CloudInMemory):
        def destroy(self, lease_id: str, handle: str) -> None:
            together.wait(60)
            super().destroy(lease_id, handle)

    cloud = Slow()
    with journal.transaction() as books:
        for name in ("a1", "a2", "a3"):
            books.write(lease_of(journal.owner, name))
            cloud.add(name, journal.owner)
    monkeypatch.setattr(listing, "find_provider", lambda *_: cloud)
    ended = release(tmp_path, None, lambda name: remote())
    assert [(one.lease, one.problem) for one in ended] == [
        (name, None) for name in ("a1", "a2", "a3")
    ]
    assert not cloud.nodes and journal.leases() == []
