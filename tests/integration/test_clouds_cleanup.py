# SPDX-License-Identifier: GPL-2.0-or-later
"""What ends real nodes when their controller was killed: their own timers, or a sweep, each alone.

The controller's own release alone, and sweeps of many kinds, are in `test_cleanups`.
"""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mock_cloud.cloud.apis.adapter import TAG_EXPIRES, TAG_LEASE, TAG_REMOTE
from mock_cloud.cloud.images import TAG_OWNER
from tests.integration.conftest import User
from tests.integration.ec2_remote import write_user
from tests.integration.faults import Command
from tests.lab.clouds.ec2 import Ec2Cloud
from tests.lab.clouds.machines import State
from tests.lab.clouds.openstack import OpenStackCloud
from tests.waiting import wait_for

pytestmark = pytest.mark.lab

LEASE = "\n[lease]\nidle_ttl = {idle_ttl}\nmax_ttl = {max_ttl}\ngrace = 1\n"
BUDGET = '\n[budget]\nper_day = 1.2\nat_limit = "stop"\n'


def kill(run: Command) -> None:
    run.send(signal.SIGKILL)
    run.child.wait()


# The node's own timers alone: its controller is dead, and nobody sweeps


@pytest.mark.slow
def test_a_node_that_nobody_ever_reached_ends_with_its_lease(
    ec2: Ec2Cloud, tmp_path: Path, cache: Path, plain_srpm: Path
) -> None:
    """By the timer that cloud-init set at its birth: there is no agent on it."""
    user = write_user(ec2, tmp_path, cache, LEASE.format(idle_ttl=30, max_ttl=60))
    with Command(user, plain_srpm) as run:
        wait_for(lambda: ec2.calls.count("RunInstances"))
        kill(run)
    (machine,) = ec2.nodes()
    wait_for(lambda: "shutdown is due" in machine.console)
    wait_for(lambda: not ec2.nodes())
    assert ec2.listing().is_empty
    assert ec2.calls.count("TerminateInstances") == 0


@pytest.mark.slow
def test_a_node_whose_controller_is_killed_at_work_ends_with_its_lease(
    ec2: Ec2Cloud, tmp_path: Path, cache: Path, sleeping_srpm: Path
) -> None:
    """By the dead-man: the timer of its birth, in whole minutes, has half of its time left."""
    user = write_user(ec2, tmp_path, cache, LEASE.format(idle_ttl=30, max_ttl=61))
    began = time.monotonic()
    with Command(user, sleeping_srpm) as run:
        run.wait_for("Start: rpmbuild")
        kill(run)
    (machine,) = ec2.nodes()
    wait_for(lambda: not ec2.nodes())
    assert time.monotonic() - began > 55
    assert "shutdown is due" not in machine.console
    assert ec2.listing().is_empty
    assert ec2.calls.count("TerminateInstances") == 0


@pytest.mark.slow
def test_a_server_that_switched_itself_off_is_deleted_by_a_sweep(
    openstack: OpenStackCloud, tmp_path: Path, cache: Path, sleeping_srpm: Path
) -> None:
    """OpenStack has no behaviour at shutdown: what is off still exists, and may cost."""
    config = openstack.write_config(tmp_path / "etc")
    with (config.path / "remotes.d/openstack.toml").open("a") as stream:
        stream.write(LEASE.format(idle_ttl=30, max_ttl=61))
    options = ("--configdir", str(config.path), "-r", config.chroot(), "--remote", "openstack")
    environ = {"OS_CLIENT_CONFIG_FILE": str(config.path / "clouds.yaml")}
    user = User(tmp_path, config, cache, options, environ)
    with Command(user, sleeping_srpm) as run:
        run.wait_for("Start: rpmbuild")
        kill(run)
    (machine,) = openstack.nodes()
    wait_for(lambda: machine.state is State.POWERED_OFF)
    assert openstack.listing().instances == (machine.name,)
    ended = user.cloud("reap", "openstack", "--configdir", config.path).expect()
    assert "was ended: expired" in ended.stderr
    assert openstack.listing().is_empty


# The next command alone: no sweep, and the timers are long


@pytest.mark.slow
@pytest.mark.fault(22)
def test_22_what_a_controller_was_making_when_it_was_killed_is_ended_by_the_next_command(
    ec2: Ec2Cloud, tmp_path: Path, cache: Path, plain_srpm: Path
) -> None:
    """It is not adopted: its host key was in the memory of the process that died."""
    user = write_user(ec2, tmp_path, cache)
    with Command(user, plain_srpm) as run:
        wait_for(ec2.nodes)
        kill(run)
    (half_made,) = ec2.listing().instances
    (row,) = user.nodes()
    ended = user.cloud("attest", "ec2", "--configdir", user.config.path).expect()
    assert f"node {row['lease']} was ended: its creator died" in ended.stderr
    (left,) = ec2.listing().instances
    assert left != half_made and "verdict: trusted" in ended.stdout
    user.cloud("release", "--all", "--configdir", user.config.path).expect()
    assert ec2.listing().is_empty


# The sweep alone: the timers are long, the controller is dead


@pytest.fixture
def strangers(ec2: Ec2Cloud) -> tuple[str, ...]:
    """Instances of another owner, of nobody in particular, and of one whose lease expired."""
    return tuple(plant(ec2, tags) for tags in ({}, our_tags(4e9), our_tags(1e9)))


def our_tags(expires_unix: float) -> dict[str, str]:
    return {
        TAG_LEASE: "0123456789ab",
        TAG_OWNER: "somebody@elsewhere:1000/01234567",
        TAG_REMOTE: "ec2",
        TAG_EXPIRES: str(int(expires_unix)),
    }


def plant(cloud: Ec2Cloud, tags: dict[str, str]) -> str:
    listed = [{"Key": key, "Value": value} for key, value in tags.items()]
    given = {"TagSpecifications": [{"ResourceType": "instance", "Tags": listed}]} if tags else {}
    made = cloud.client.run_instances(ImageId=cloud.image_id, MinCount=1, MaxCount=1, **given)
    return str(made["Instances"][0]["InstanceId"])


@pytest.fixture
def sweeper(ec2: Ec2Cloud, tmp_path: Path, cache: Path) -> Iterator[User]:
    user = write_user(ec2, tmp_path, cache, LEASE.format(idle_ttl=1, max_ttl=3600))
    yield user
    user.cloud("release", "--all", "--force", "--configdir", user.config.path).expect()


@pytest.mark.slow
@pytest.mark.fault(39)
def test_a_sweep_ends_what_a_killed_controller_left_and_nothing_else(
    ec2: Ec2Cloud, sweeper: User, strangers: tuple[str, ...], sleeping_srpm: Path
) -> None:
    reap = ("reap", "ec2", "--expired", "--configdir", sweeper.config.path)
    with Command(sweeper, "--uniqueext", "busy", sleeping_srpm) as busy:
        busy.wait_for("Start: build phase")
        (busy_node,) = set(ec2.listing().instances) - set(strangers)
        with Command(sweeper, sleeping_srpm) as run:
            run.wait_for("Start: rpmbuild")
            kill(run)
        assert len(ec2.nodes()) == 2
        ended = sweeper.cloud(*reap).expect()
        assert "nothing to clean up" in ended.stderr  # its grace begins when its death is noticed
        time.sleep(1.1)
        ended = sweeper.cloud(*reap).expect()
        assert ended.stderr.count("was ended") == 1
        assert "its controller died" in ended.stderr
        assert sorted(ec2.listing().instances) == sorted((busy_node, *strangers))
        assert ec2.calls.count("TerminateInstances") == 1
        assert busy.child.poll() is None
        kill(busy)


# What a node's timers are told


@pytest.mark.fault(40)
def test_40_the_budget_is_enforced_by_the_node_itself(
    ec2: Ec2Cloud, tmp_path: Path, cache: Path
) -> None:
    """Both of its timers know the life that the budget allows, and no other."""
    user = write_user(ec2, tmp_path, cache, BUDGET)
    place = user.config.path / "remotes.d/ec2.toml"
    text = place.read_text()
    place.write_text(text.replace("[attest]", "price_per_hour = 6.0\n\n[attest]", 1))
    user.cloud("attest", "ec2", "--configdir", user.config.path).expect()
    (row,) = user.nodes()
    life_s = row["expires_unix"] - time.time()
    assert 0 < life_s <= 2 * 720 + 60  # of two days' budgets, close to midnight
    (machine,) = ec2.nodes()
    root = Path(f"/proc/{machine.init_pid}/root")
    noted = (root / "run/systemd/shutdown/scheduled").read_text()
    (usec,) = re.findall(r"^USEC=(\d+)$", noted, re.MULTILINE)
    assert 0 <= int(usec) / 1e6 - row["expires_unix"] <= 60 + 30
    orders = (root / "var/lib/mock-cloud/order.log").read_text()
    (told_s,) = re.findall(rf" lease {row['lease']} (\d+) s, poweroff$", orders, re.MULTILINE)
    assert life_s - 1 <= int(told_s) <= life_s + 60
    user.cloud("release", "--all", "--configdir", user.config.path).expect()
    assert ec2.listing().is_empty
