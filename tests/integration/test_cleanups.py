# SPDX-License-Identifier: GPL-2.0-or-later
"""What ends nodes, each alone: the controller's own release, and the reaper's sweep.

The nodes are of paper: they have no timer of their own that could help. The third, the node's own
timer, has tests of its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from mock_cloud.cli.reap import reap
from mock_cloud.cloud.apis.adapter import TAG_LEASE
from mock_cloud.cloud.claim import LeaseRequest
from mock_cloud.cloud.images import TAG_BAKE, TAG_OWNER
from mock_cloud.cloud.journal import Journal
from mock_cloud.cloud.lease import LeaseState
from mock_cloud.cloud.leased import LeasedNode
from mock_cloud.cloud.orphans import reap_remote
from mock_cloud.cloud.pool import acquire
from mock_cloud.config.remotes import load_remote
from mock_cloud.console import Console
from mock_cloud.errors import CloudError, ConnectionLost
from mock_cloud.places import state_dir
from mock_cloud.settings import LeaseLimits, Remote
from mock_cloud.steps.release.clean_up import cleaned_up
from mock_cloud.steps.release.ending import start_ending
from tests.lab.clouds import ec2_xml, faults
from tests.lab.layout import Lab
from tests.soak.paper import PaperEc2, opened
from tests.waiting import wait_for

pytestmark = pytest.mark.lab


class Account:
    """An empty EC2 and a state directory."""

    def __init__(self, cloud: PaperEc2, place: Path) -> None:
        self.cloud = cloud
        self.configdir = cloud.write_config(place / "etc").path
        self.state_dir = place / "state"
        self.diary = place / "diary"

    def remote(self, **limits: float) -> Remote:
        remote = load_remote("ec2", self.configdir)
        return replace(remote, lease=LeaseLimits(**limits))  # type: ignore[arg-type]

    def acquire(self, toolkit: str = "", **limits: float) -> LeasedNode:
        return acquire(
            self.remote(**limits),
            LeaseRequest("one", platform.machine(), toolkit),
            state_dir=self.state_dir,
            deadline_s=30.0,
        )

    def instances(self) -> int:
        return len(self.cloud.listing().instances)

    def controller(self) -> subprocess.Popen[bytes]:
        """Another process that leases and holds; see `tests.soak.controller`."""
        words = ("ec2", self.configdir, self.state_dir, self.diary, 7)
        argv = [sys.executable, "-m", "tests.soak.controller", *map(str, words)]
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def cloud(lab: Lab) -> Iterator[PaperEc2]:
    pytest.importorskip("moto", reason="moto is not installed")
    with opened(PaperEc2(lab)) as paper:
        yield paper


@pytest.fixture
def account(cloud: PaperEc2, tmp_path: Path) -> Iterator[Account]:
    yield Account(cloud, tmp_path)
    cloud.reset()


# The controller's release alone: nobody sweeps, no node has a timer


@pytest.mark.slow
def test_what_is_given_back_is_gone(account: Account) -> None:
    node = account.acquire()
    assert account.instances() == 1
    node.release(keep=False)
    assert account.cloud.listing().is_empty


def test_what_is_not_kept_warm_is_gone(account: Account) -> None:
    with account.acquire(idle_ttl_s=0.0):
        pass
    assert account.cloud.listing().is_empty


@pytest.mark.parametrize("is_out", [False, True])
def test_what_a_user_does_not_wait_for_is_gone_too(
    account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_out: bool
) -> None:
    """By a process of its own; where the API says nothing, once it does, by the next command."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    account.state_dir = state_dir()
    node = account.acquire()
    node.end_beside = partial(start_ending, remote_file=account.remote().source)
    if is_out:
        account.cloud.faults.add(faults.html_502(), on="TerminateInstances", times=None)
    node.release(keep=False)
    journal = Journal(account.state_dir)
    if is_out:
        wait_for(lambda: all(lease.end_attempts for lease in journal.leases()))
        assert account.instances() == 1 and journal.leases()[0].end_problem
        account.cloud.faults.clear()
        reap_remote(account.remote(), account.state_dir)
    wait_for(lambda: journal.leases() == [])
    assert account.cloud.listing().is_empty
    wait_for(lambda: not any(b"release.ending" in one for one in _children()))  # it tries again


def _children() -> list[bytes]:
    lists = [file.read_text() for file in Path("/proc/self/task").glob("*/children")]
    return [Path(f"/proc/{pid}/cmdline").read_bytes() for one in lists for pid in one.split()]


@pytest.mark.parametrize("error", [ConnectionLost("lost"), KeyboardInterrupt()])
def test_whatever_goes_wrong_on_it_ends_it(account: Account, error: BaseException) -> None:
    with pytest.raises(type(error)), account.acquire():
        raise error
    assert account.cloud.listing().is_empty


def test_a_launch_that_fails_after_the_cloud_acted_leaves_nothing(account: Account) -> None:
    account.cloud.faults.add(faults.reset_after, on="RunInstances")
    account.cloud.faults.add(ec2_xml.no_capacity(), on="RunInstances", times=None)
    with pytest.raises(CloudError):
        account.acquire()
    assert account.cloud.listing().is_empty
    assert Journal(account.state_dir).leases() == []


# The reaper alone: whoever leased was killed, no node has a timer


def wait_for_instance(account: Account) -> None:
    deadline = time.monotonic() + 300.0
    while not account.diary.exists() or "held" not in account.diary.read_text():
        assert time.monotonic() < deadline, "no node was leased"
        time.sleep(0.05)


def test_what_a_killed_controller_held_is_swept(account: Account) -> None:
    child = account.controller()
    try:
        wait_for_instance(account)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    journal = Journal(account.state_dir)
    for lease in journal.leases():  # as if all graces were over
        with journal.transaction() as books:
            books.write(replace(lease, idle_since_unix=1.0))
    reap_remote(account.remote(), account.state_dir)
    assert account.cloud.listing().is_empty and journal.leases() == []


def test_a_node_whose_launch_was_cut_off_is_swept_by_its_tag(account: Account) -> None:
    """Killed after the cloud acted and before the answer came: the journal has no handle."""
    account.cloud.faults.add(faults.swallow, on="RunInstances")
    child = account.controller()
    try:
        deadline = time.monotonic() + 300.0
        while account.instances() == 0:
            assert time.monotonic() < deadline and child.poll() is None
            time.sleep(0.05)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    account.cloud.faults.clear()
    (lease,) = Journal(account.state_dir).leases()
    assert (lease.state, lease.handle) == (LeaseState.CREATING, "")
    (swept,) = reap_remote(account.remote(), account.state_dir)
    assert (swept.lease_id, swept.reason, swept.error) == (lease.id, "its creator died", None)
    assert account.cloud.listing().is_empty


def test_a_node_whose_journal_was_lost_is_swept(account: Account) -> None:
    account.acquire().release(keep=True)
    for path in account.state_dir.glob("leases.sqlite*"):
        path.unlink()
    (swept,) = reap_remote(account.remote(), account.state_dir)
    assert swept.reason == "no lease names it" and account.cloud.listing().is_empty


def test_the_sweep_spares_what_is_held_and_what_is_anothers(
    account: Account, tmp_path: Path
) -> None:
    busy = account.acquire()
    stranger = acquire(
        account.remote(),
        LeaseRequest("one", platform.machine()),
        state_dir=tmp_path / "elsewhere",
        deadline_s=30.0,
    )
    account.cloud.asked_to_end.clear()
    assert reap_remote(account.remote(), account.state_dir, with_lost_state=True) == []
    assert account.cloud.asked_to_end == [] and account.instances() == 2
    busy.destroy()
    stranger.destroy()


def test_somebody_elses_volume_stays_even_with_our_leases_id(account: Account) -> None:
    node = account.acquire()
    tags = {TAG_LEASE: node.lease_id, TAG_OWNER: "somebody@elsewhere:0/00000000"}
    made = account.cloud.client.create_volume(
        AvailabilityZone="us-east-1a",
        Size=1,
        TagSpecifications=[
            {
                "ResourceType": "volume",
                "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
            }
        ],
    )
    node.destroy()
    assert account.cloud.listing().volumes == (made["VolumeId"],)


@pytest.mark.parametrize("dry_run", [True, False])
def test_the_unfinished_image_of_a_bake_that_died_is_swept(account: Account, dry_run: bool) -> None:
    """And no other: not a living bake's, not another state directory's, no finished one."""
    images = {bake: plant_image(account, bake) for bake in ("dead", "living", "elsewhere", "")}
    place = account.state_dir / "bakes"
    place.mkdir(parents=True)
    (place / "dead").touch()
    with (place / "living").open("w") as living:
        fcntl.flock(living, fcntl.LOCK_EX)
        (reaped,) = reap(["ec2"], account.state_dir, account.configdir, dry_run=dry_run)
    assert [(one.handle, one.problem) for one in reaped.images] == [(images.pop("dead"), "")]
    assert (place / "dead").exists() == dry_run
    left = set(account.cloud.listing().images)
    assert left >= set(images.values()) and len(left - set(images.values())) == dry_run


def plant_image(account: Account, bake: str) -> str:
    client = account.cloud.client
    made = client.register_image(Name=f"image-{bake}", RootDeviceName="/dev/sda1")["ImageId"]
    tags = {TAG_OWNER: "somebody", **({TAG_BAKE: bake} if bake else {})}
    client.create_tags(Resources=[made], Tags=[{"Key": k, "Value": v} for k, v in tags.items()])
    return str(made)


def test_a_sweep_without_dead_bakes_asks_for_no_images(account: Account) -> None:
    list(reap(["ec2"], account.state_dir, account.configdir))
    assert account.cloud.calls.count("DescribeImages") == 0


# A warm node of another version of ours


def test_34_a_node_that_holds_another_toolkit_is_not_used(account: Account) -> None:
    """It would be refused: nothing but what we pushed may be in its toolkit's place."""

    def lease(toolkit: str) -> str:
        node = account.acquire(toolkit=toolkit)
        node.release(keep=True)
        return node.handle

    old = lease("a" * 64)
    new = lease("b" * 64)
    assert new != old
    assert [lease("a" * 64), lease("b" * 64)] == [old, new]
    assert account.cloud.calls.count("RunInstances") == 2


# What a command does beside its build


def test_a_command_asks_no_cloud_without_need(account: Account) -> None:
    account.acquire().release(keep=True)
    account.cloud.calls.clear()
    with cleaned_up(account.state_dir, account.configdir, Console()):
        pass
    assert len(account.cloud.calls) == 0


def test_a_command_ends_what_the_journal_says_is_due(account: Account) -> None:
    account.acquire(idle_ttl_s=0.05, max_ttl_s=600.0).release(keep=True)
    time.sleep(0.1)
    with cleaned_up(account.state_dir, account.configdir, Console()):
        pass
    assert account.cloud.listing().is_empty


@pytest.mark.slow
def test_an_api_that_is_out_holds_no_build_up(account: Account) -> None:
    account.acquire(idle_ttl_s=0.05, max_ttl_s=600.0).release(keep=True)
    time.sleep(0.1)
    account.cloud.faults.add(faults.hang, times=None)
    began = time.monotonic()
    with cleaned_up(account.state_dir, account.configdir, Console()):
        inside_s = time.monotonic() - began
    assert inside_s < 60 and time.monotonic() - began < 120
    account.cloud.faults.clear()
    with contextlib.suppress(CloudError):
        reap_remote(account.remote(), account.state_dir)
