# SPDX-License-Identifier: GPL-2.0-or-later
"""Leases of real local nodes: who gets which, and what ends them."""

import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from mock_cloud.cloud.claim import LeaseRequest
from mock_cloud.cloud.journal import Journal
from mock_cloud.cloud.lease import Holder, LastVerdict, LeaseState
from mock_cloud.cloud.listing import list_rows, release
from mock_cloud.cloud.orphans import reap_local
from mock_cloud.cloud.pool import acquire
from mock_cloud.errors import ChrootGone, ChrootLocked, CloudError, ConfigError, InputError
from tests.component.cloud_nodes import Site, eventually, in_child, killed

pytestmark = pytest.mark.lab
pytest_plugins = ["tests.component.cloud_fixtures"]

OF = ("lab", "x86_64")  # whose queue it is


def hold(site: Site, chroot: str, ready: Path, **limits: float) -> None:
    """Another controller's life: take a node, say so, work for ever."""
    node = site.acquire(chroot, **limits)
    ready.write_text(node.lease_id)
    time.sleep(600)


def held_by_child(site: Site, tmp_path: Path, chroot: str, **limits: float) -> tuple[int, str]:
    ready = tmp_path / f"ready-{chroot}"
    pid = in_child(lambda: hold(site, chroot, ready, **limits))
    eventually(lambda: ready.exists() and ready.read_text() != "")
    return pid, ready.read_text()


def state(site: Site, lease_id: str) -> LeaseState:
    lease = Journal(site.state_dir).find(lease_id)
    assert lease is not None
    return lease.state


def test_a_released_node_is_warm_for_the_next(site: Site) -> None:
    with site.acquire("one") as first:
        first.record_layers({"/var/lib/mock-cloud/layers/k": "ab"})
        first.record_chroots(["one", "boot"])
        first.record_verdict(LastVerdict("cd"))
        site.ssh(first, "touch /var/lib/mock/here")
    (before,) = list_rows(site.state_dir)
    with site.acquire("two") as second:
        assert second.lease_id == first.lease_id
        assert list_rows(site.state_dir)[0].expires_unix == before.expires_unix
        assert second.address == first.address
        assert second.client_key.reveal() == first.client_key.reveal()
        assert second.injected == first.injected and second.mounts == first.mounts
        assert second.layers == {"/var/lib/mock-cloud/layers/k": "ab"}
        assert (second.verdict.sha256, second.builds, second.adopted) == ("cd", 2, False)
        assert "here" in site.ssh(second, "ls /var/lib/mock")
    (row,) = list_rows(site.state_dir)
    assert (row.state, row.chroots, row.holder_pid) == ("ready", ("boot", "one"), 0)
    assert row.idle_s is not None and row.to_json()["lease"] == first.lease_id


def test_a_chroot_finds_its_home(site: Site) -> None:
    with site.acquire("one") as one, site.acquire("two") as two:
        one.record_chroots(["one"])
        two.record_chroots(["two"])
    assert one.lease_id != two.lease_id
    for chroot, home in (("one", one), ("two", two), ("one", one)):
        with site.acquire(chroot) as node:
            assert node.lease_id == home.lease_id


def test_a_chroot_made_anew_elsewhere_lives_there(site: Site, tmp_path: Path) -> None:
    home = site.acquire("one")
    home.record_chroots(["one", "other"])
    home.release(keep=True)
    pid, lease_id = held_by_child(site, tmp_path, "two")
    assert lease_id == home.lease_id
    remote = site.remote()
    request = LeaseRequest("one", "x86_64", fresh=True)
    with acquire(remote, request, state_dir=site.state_dir, deadline_s=20) as node:
        assert node.lease_id != home.lease_id
    left = Journal(site.state_dir).find(home.lease_id)
    assert left is not None and left.chroots == ("other",)
    killed(pid)


def test_other_settings_need_another_node(site: Site) -> None:
    with site.acquire("one") as node:
        pass
    with site.acquire("one", disk_mib=64) as other:
        assert other.lease_id != node.lease_id


def test_nothing_is_kept_on_request_after_the_last_build_or_without_idle_time(site: Site) -> None:
    with site.acquire() as node:
        node.release(keep=False)
    assert site.nodes() == []
    with site.acquire(idle_ttl_s=0):
        pass
    assert site.nodes() == []
    with site.acquire(max_builds=2):
        pass
    assert len(site.nodes()) == 1
    with site.acquire(max_builds=2):
        pass
    assert site.nodes() == []


def test_a_count_ends_no_node_on_which_a_chroot_lives(site: Site) -> None:
    with site.acquire("one", max_builds=1) as home:
        home.record_chroots(["one"])
    for chroot in ("one", "two", "one"):
        with site.acquire(chroot, max_builds=1) as node:
            assert node.lease_id == home.lease_id
    with site.acquire("one", max_builds=1) as node:
        node.record_chroots([])  # as after --clean
    assert site.nodes() == []


def test_a_chroot_whose_node_has_ended_is_not_silently_made_anew(site: Site) -> None:
    with site.acquire("one") as home:
        home.record_chroots(["one"])
    with site.acquire("one") as home:
        home.destroy()
    reap_local(site.state_dir)
    with pytest.raises(ChrootGone, match="chroot one on remote lab is gone: its node ended at 2"):
        site.acquire("one")
    with site.acquire("two"):
        pass
    with site.acquire("one", discards=True) as node:
        pass
    with site.acquire("one") as node:  # known to be gone, and begun again
        node.record_chroots(["one"])
    release(site.state_dir, node.lease_id, lambda name: site.remote())
    with site.acquire("one"):  # given away on purpose
        pass


def test_an_exception_destroys_the_node(site: Site) -> None:
    with pytest.raises(KeyError), site.acquire():
        raise KeyError
    assert site.nodes() == []


def test_the_limit_makes_callers_wait_and_says_for_whom(site: Site, tmp_path: Path) -> None:
    pid, lease_id = held_by_child(site, tmp_path, "one", max_nodes=1)
    started = time.monotonic()
    with pytest.raises(CloudError, match=f"lease {lease_id}.*process {pid} .*chroot one"):
        site.acquire("two", wait_s=0.5, max_nodes=1)
    assert time.monotonic() - started > 0.4
    killed(pid)


def test_a_waiting_caller_gets_the_node_that_is_given_back(site: Site, tmp_path: Path) -> None:
    node = site.acquire("one", max_nodes=1)
    got = tmp_path / "got"

    def wait() -> None:
        with site.acquire("two", max_nodes=1) as mine:
            got.write_text(mine.lease_id)

    pid = in_child(wait)
    time.sleep(0.5)
    assert not got.exists()
    node.release(keep=True)
    eventually(got.exists)
    assert os.waitpid(pid, 0)[1] == 0
    assert got.read_text() == node.lease_id


@contextmanager
def in_turn(site: Site, tmp_path: Path, chroots: str) -> Iterator[dict[str, int]]:
    """Processes that want the one node, each waiting when the next one comes; by their chroots.

    Those that are left in what it yields are killed at the end.
    """

    def wait(chroot: str) -> None:
        node = acquire(
            site.remote(max_nodes=1), LeaseRequest(chroot, "x86_64"), state_dir=site.state_dir,
            deadline_s=30, on_phase=lambda text: said(tmp_path, chroot, text),
        )  # fmt: skip
        with node, (tmp_path / "served").open("a") as served:
            served.write(chroot)

    pids = {}
    for chroot in chroots:
        pids[chroot] = in_child(partial(wait, chroot))
        eventually((tmp_path / f"said-{chroot}").exists)
    try:
        yield pids
    finally:
        for pid in pids.values():
            killed(pid)


def said(tmp_path: Path, chroot: str, text: str) -> None:
    with (tmp_path / f"said-{chroot}").open("a") as stream:
        print(text, file=stream)


def ended(pid: int) -> int:
    return os.waitpid(pid, 0)[1]


def test_who_waits_is_served_in_turn(site: Site, tmp_path: Path) -> None:
    node = site.acquire("one", max_nodes=1)
    with in_turn(site, tmp_path, "abc") as pids:
        said_c = (tmp_path / "said-c").read_text()
        assert "waiting for a node, place 3 in the queue: lease " in said_c
        with Journal(site.state_dir).transaction() as books:  # who comes now goes behind them
            assert books.queue(*OF).count_ahead(None) == 3
        node.release(keep=True)
        assert [ended(pids.pop(chroot)) for chroot in "abc"] == [0, 0, 0]
    assert (tmp_path / "served").read_text() == "abc"


def stopped_between_looks(site: Site, pid: int) -> None:
    """Stops a process that waits, while it does not hold the journal."""
    while True:
        os.kill(pid, signal.SIGSTOP)
        with closing(sqlite3.connect(Journal(site.state_dir).path, timeout=0.1)) as db:
            try:
                db.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError:
                os.kill(pid, signal.SIGCONT)


def test_nobody_waits_for_the_dead_or_the_stopped(site: Site, tmp_path: Path) -> None:
    node = site.acquire("one", max_nodes=1)
    with in_turn(site, tmp_path, "abc") as pids:
        killed(pids.pop("a"))
        said_c = tmp_path / "said-c"
        eventually(lambda: "place 2 in the queue for a node" in said_c.read_text())
        stopped_between_looks(site, pids["b"])
        node.release(keep=True)
        assert ended(pids.pop("c")) == 0
        os.kill(pids["b"], signal.SIGCONT)
        assert ended(pids.pop("b")) == 0
    assert (tmp_path / "served").read_text() == "cb"
    with Journal(site.state_dir).transaction() as books:
        assert books.queue(*OF).count_ahead(None) == 0


def test_who_goes_on_in_a_chroot_waits_for_its_node_alone(site: Site, tmp_path: Path) -> None:
    with site.acquire("one", max_nodes=1) as home:
        home.record_chroots(["one", "two"])
    node = site.acquire("two", max_nodes=1)
    with in_turn(site, tmp_path, "a") as pids:
        with pytest.raises(CloudError, match="chroot two"):
            site.acquire("one", wait_s=0.3, max_nodes=1)
        node.release(keep=True)
        assert ended(pids.pop("a")) == 0


def test_a_chroot_in_use_is_locked_at_once(site: Site, tmp_path: Path) -> None:
    pid, lease_id = held_by_child(site, tmp_path, "one")
    started = time.monotonic()
    with pytest.raises(ChrootLocked, match=lease_id) as caught:
        site.acquire("one")
    assert caught.value.exit_code == 60
    assert time.monotonic() - started < 200
    killed(pid)


def test_of_many_controllers_one_gets_the_warm_node(site: Site, tmp_path: Path) -> None:
    with site.acquire("one", max_nodes=4) as warm:
        pass

    def race(number: int) -> None:
        node = site.acquire(f"race{number}", max_nodes=4)
        (tmp_path / f"race{number}").write_text(node.lease_id)
        time.sleep(600)

    pids = [in_child(lambda number=number: race(number)) for number in range(4)]  # type: ignore[misc]
    files = [tmp_path / f"race{number}" for number in range(4)]
    eventually(lambda: all(file.exists() and file.read_text() for file in files))
    leases = [file.read_text() for file in files]
    assert leases.count(warm.lease_id) == 1
    assert len(set(leases)) == 4
    for pid in pids:
        killed(pid)


def test_a_killed_controller_leaves_nothing_for_longer_than_the_idle_time(
    site: Site, tmp_path: Path
) -> None:
    pid, lease_id = held_by_child(site, tmp_path, "one", idle_ttl_s=2)
    killed(pid)
    died = time.monotonic()
    (row,) = list_rows(site.state_dir)
    assert (row.state, row.holder_pid) == ("abandoned", 0)
    eventually(lambda: site.nodes() == [])
    assert time.monotonic() - died > 1.5
    eventually(lambda: state(site, lease_id) is LeaseState.GONE)


def test_a_killed_controller_without_idle_time_leaves_nothing(site: Site, tmp_path: Path) -> None:
    pid, lease_id = held_by_child(site, tmp_path, "one", idle_ttl_s=0)
    killed(pid)
    eventually(lambda: site.nodes() == [])
    eventually(lambda: state(site, lease_id) is LeaseState.GONE)


def test_an_idle_node_ends_and_a_busy_one_does_not(site: Site) -> None:
    idle = site.acquire("one", idle_ttl_s=1)
    busy = site.acquire("two", idle_ttl_s=1)
    idle.release(keep=True)
    eventually(lambda: site.nodes() == [busy.lease_id])
    time.sleep(1.5)
    assert site.ssh(busy, "echo alive") == "alive\n"
    busy.destroy()


def test_an_expired_lease_ends_even_a_busy_node(site: Site) -> None:
    node = site.acquire(max_ttl_s=2)
    assert site.nodes() == [node.lease_id]
    eventually(lambda: site.nodes() == [])
    with pytest.raises(CloudError, match="no longer ours"):
        node.record_chroots(["one"])
    with pytest.raises(CloudError, match="no longer ours"):
        node.release(keep=True)
    node.destroy()


def test_an_abandoned_node_is_adopted_by_its_own_chroot_only(site: Site, tmp_path: Path) -> None:
    pid, lease_id = held_by_child(site, tmp_path, "one")
    killed(pid)
    with site.acquire("two") as other:
        assert other.lease_id != lease_id
    with site.acquire("one") as node:
        assert (node.lease_id, node.adopted) == (lease_id, True)
        assert site.ssh(node, "echo alive") == "alive\n"


def test_at_the_limit_an_abandoned_node_makes_room(site: Site, tmp_path: Path) -> None:
    pid, lease_id = held_by_child(site, tmp_path, "one", max_nodes=1)
    killed(pid)
    with site.acquire("two", max_nodes=1) as node:
        assert site.nodes() == [node.lease_id]
    assert state(site, lease_id) is LeaseState.GONE


def test_a_warm_node_that_died_is_replaced(site: Site) -> None:
    with site.acquire("one") as node:
        pass
    facts = site.facts(node.lease_id)
    os.kill(facts.supervisor.pid, signal.SIGKILL)
    eventually(lambda: not facts.supervisor.alive)
    with site.acquire("one") as other:
        assert other.lease_id != node.lease_id
        assert site.nodes() == [other.lease_id]


def test_a_crash_before_the_node_exists_is_swept(site: Site) -> None:
    def crash(phase: str) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def work() -> None:
        acquire(
            site.remote(),
            LeaseRequest("one", "x86_64"),
            state_dir=site.state_dir,
            deadline_s=20,
            on_phase=crash,
        )

    os.waitpid(in_child(work), 0)
    (lease,) = Journal(site.state_dir).leases()
    assert lease.state is LeaseState.INTENDED and site.nodes() == []
    (reaped,) = reap_local(site.state_dir)
    assert (reaped.lease_id, reaped.reason, reaped.error) == (lease.id, "its creator died", None)
    assert Journal(site.state_dir).leases() == [] and reap_local(site.state_dir) == []


def test_a_crash_while_the_node_is_made_ends_the_node(site: Site) -> None:
    pid = in_child(lambda: hold(site, "one", site.state_dir / "ready"))
    eventually(lambda: site.nodes() != [])
    killed(pid)
    eventually(lambda: site.nodes() == [] and Journal(site.state_dir).leases() == [])


def test_a_sweep_clears_after_a_killed_supervisor(site: Site) -> None:
    with site.acquire() as node:
        pass
    facts = site.facts(node.lease_id)
    os.kill(facts.supervisor.pid, signal.SIGKILL)
    eventually(lambda: not facts.supervisor.alive)
    (reaped,) = reap_local(site.state_dir)
    assert (reaped.lease_id, reaped.reason) == (node.lease_id, "its node is gone")
    assert site.nodes() == []


def test_a_sweep_ends_a_node_that_no_lease_names(site: Site) -> None:
    node = site.acquire()
    with sqlite3.connect(Journal(site.state_dir).path) as db:
        db.execute("DELETE FROM lease")
    db.close()
    reap_local(site.state_dir)  # or its supervisor was faster
    eventually(lambda: site.nodes() == [])
    assert site.try_ssh(node, "true").returncode == 255


def test_a_sweep_leaves_alone_what_is_used_or_not_ours(site: Site) -> None:
    busy = site.acquire("one")
    with site.acquire("two") as other:
        pass
    journal = Journal(site.state_dir)
    with journal.transaction() as books:
        lease = books.find(other.lease_id)
        assert lease is not None
        foreign = replace(lease, owner="someone@elsewhere:1")
        books.write(foreign)
        books.write(replace(foreign, id="far", state=LeaseState.BUSY, expires_unix=1.0))
    assert reap_local(site.state_dir) == []
    assert release(site.state_dir, None, site.load)[0].lease == busy.lease_id
    assert len(site.nodes()) == 2
    with journal.transaction() as books:
        books.write(lease)
    busy.destroy()


def test_release_spares_a_node_at_work_unless_forced(site: Site, tmp_path: Path) -> None:
    pid, lease_id = held_by_child(site, tmp_path, "one")
    (refused,) = release(site.state_dir, lease_id, site.load)
    assert refused.problem is not None and f"process {pid}" in refused.problem
    assert site.nodes() == [lease_id]
    (done,) = release(site.state_dir, "lab", site.load, force=True)
    assert done.problem is None and site.nodes() == []
    killed(pid)
    with pytest.raises(InputError, match="'lab'"):
        release(site.state_dir, "lab", site.load)
    assert release(site.state_dir, None, site.load) == []


def test_a_failed_boot_closes_the_lease(site: Site) -> None:
    broken = replace(site, image=Path("/nowhere"))
    with pytest.raises(ConfigError, match="/nowhere"):
        broken.acquire()
    assert Journal(site.state_dir).leases() == []
    assert list((site.state_dir / "keys").iterdir()) == []


def test_a_lease_that_was_lost_cannot_be_written(site: Site) -> None:
    node = site.acquire()
    journal = Journal(site.state_dir)
    with journal.transaction() as books:
        lease = books.find(node.lease_id)
        assert lease is not None
        books.write(replace(lease, holder=Holder(1, "other/1")))
    with pytest.raises(CloudError, match="no longer ours"):
        node.record_layers({})
