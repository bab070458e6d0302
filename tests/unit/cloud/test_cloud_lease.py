# SPDX-License-Identifier: GPL-2.0-or-later
import os
import signal
import subprocess
from dataclasses import replace

import pytest

from mock_cloud.cloud.lease import Holder, Lease, LeaseState, find_due

NOW = 1_000_000.0
DEAD = Holder(1, "another-boot/1")


def lease(state: LeaseState, **fields: object) -> Lease:
    base = Lease(
        id="a1",
        remote="lab",
        owner="me@here:0",
        provider="local",
        settings="s",
        state=state,
        created_unix=NOW - 50,
        expires_unix=NOW + 1000,
        idle_ttl_s=100.0,
    )
    return replace(base, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (lease(LeaseState.RELEASING), "released"),
        (lease(LeaseState.GONE), "released"),
        (lease(LeaseState.READY, idle_since_unix=NOW - 99.0), None),
        (lease(LeaseState.READY, idle_since_unix=NOW - 100.0), "idle"),
        (lease(LeaseState.BUSY, holder=DEAD), None),
        (lease(LeaseState.BUSY, holder=DEAD, idle_since_unix=NOW - 99.0), None),
        (lease(LeaseState.BUSY, holder=DEAD, idle_since_unix=NOW - 100.0), "its controller died"),
        (lease(LeaseState.INTENDED, holder=DEAD), "its creator died"),
        (lease(LeaseState.CREATING, holder=DEAD), "its creator died"),
        (lease(LeaseState.READY, expires_unix=NOW, idle_since_unix=NOW), "expired"),
    ],
)
def test_a_lease_is_due_for_one_reason(item: Lease, reason: str | None) -> None:
    assert find_due(item, NOW) == reason


def test_a_node_at_work_is_never_idle_but_it_expires() -> None:
    busy = lease(LeaseState.BUSY, holder=Holder.me(), idle_since_unix=NOW - 10_000)
    assert find_due(busy, NOW) is None
    assert find_due(busy, NOW + 1000) == "expired"


def test_a_node_being_made_by_a_living_process_is_left_alone() -> None:
    for state in (LeaseState.INTENDED, LeaseState.CREATING):
        assert find_due(lease(state, holder=Holder.me()), NOW) is None


def test_a_holder_is_one_process_and_not_its_number() -> None:
    me = Holder.me()
    assert me.alive
    assert me == Holder.of(os.getpid())
    boot_id, _, ticks = me.started.partition("/")
    assert not replace(me, started=f"{boot_id}/{int(ticks) + 1}").alive
    assert not replace(me, started=f"another/{ticks}").alive


def test_a_zombie_holds_nothing() -> None:
    child = subprocess.Popen(["sleep", "60"])
    holder = Holder.of(child.pid)
    assert holder is not None and holder.alive
    child.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not holder.alive
    child.wait()
    assert Holder.of(child.pid) is None


def test_only_busy_leases_can_be_abandoned() -> None:
    assert lease(LeaseState.BUSY, holder=DEAD).abandoned
    assert not lease(LeaseState.BUSY, holder=Holder.me()).abandoned
    assert not lease(LeaseState.READY).abandoned
