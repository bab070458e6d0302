# SPDX-License-Identifier: GPL-2.0-or-later
"""Jobs that nobody follows: what keeps their nodes, and who may take them up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mock_cloud.cloud.claim import Create, Evict, LeaseRequest, Take, choose
from mock_cloud.cloud.jobs import JobPhase, JobRecord
from mock_cloud.cloud.journal import Journal
from mock_cloud.cloud.lease import Holder, Lease, LeaseState, find_due
from mock_cloud.errors import ChrootLocked

DEAD = Holder(1, "another-boot/1")
LEFT = Lease(
    id="a", remote="lab", owner="me@here:0", provider="local", settings="s",
    state=LeaseState.BUSY, created_unix=0.0, expires_unix=9e9, idle_ttl_s=60.0,
    idle_since_unix=1000.0, chroot="f40", holder=DEAD, job="j1", grace_s=3600.0,
)  # fmt: skip
WISH = LeaseRequest("f40", fresh=True, remote="lab", owner="me@here:0", settings="s", max_nodes=2)
JOB = JobRecord(
    id="j1", remote="lab", configdir="", argv=("x.src.rpm",), cwd="/", mode="rebuild",
    chroot="f40", resultdir="/r", packages=(), fresh=True, started_unix=5.0, holder=DEAD,
    logs={"build.log": 7}, tunnelled=True, draft='{"a": 1}',
)  # fmt: skip


def test_its_node_stays_for_the_grace() -> None:
    assert find_due(LEFT, 1061.0) is None
    assert find_due(LEFT, 4601.0) == "its controller died"
    assert find_due(replace(LEFT, job=""), 1061.0) == "its controller died"
    assert find_due(replace(LEFT, expires_unix=1050.0), 1061.0) == "expired"


def test_a_build_of_the_same_chroot_takes_another_node() -> None:
    assert choose([LEFT], WISH, 1001.0) == Create()
    idle = replace(
        LEFT, id="b", state=LeaseState.READY, holder=None, chroot="", chroots=("f39",), job=""
    )
    assert choose([LEFT, idle], WISH, 1001.0) == Take(idle)


def test_what_is_in_the_chroot_is_that_jobs() -> None:
    with pytest.raises(ChrootLocked, match="j1, whose command died") as caught:
        choose([LEFT], replace(WISH, fresh=False), 1001.0)
    assert "mock-cloud attach j1" in str(caught.value.hint)


def test_at_the_limit_it_is_the_last_to_go() -> None:
    busy = replace(LEFT, id="b", holder=Holder.me(), chroot="f39", idle_since_unix=None)
    assert choose([LEFT, busy], WISH, 1001.0) == Evict(LEFT)
    other = replace(LEFT, id="b", chroot="f39", job="")
    assert choose([LEFT, other], WISH, 1001.0) == Evict(other)


def test_a_row_is_read_as_it_was_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.note_job(JOB)
    assert journal.find_job("j1") == JOB
    later = replace(JOB, state=JobPhase.ENDED, exit=7, problem="stopped", ended_unix=9.0)
    journal.note_job(later)
    assert journal.jobs() == [later] and not later.is_followed
