# SPDX-License-Identifier: GPL-2.0-or-later
"""The dead-man on real nodes: nothing but its own timer ends them here.

The lease in the journal stays valid and held throughout, so neither the controller's release
nor a sweep nor the provider's supervisor has a reason to act.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace

import pytest

from mock_cloud.cloud.leased import LeasedNode
from mock_cloud.cloud.local.files import end_process, wait_gone
from mock_cloud.cloud.local.provider import LocalProvider
from mock_cloud.errors import RemoteCommandError
from mock_cloud.model import Toolkit
from mock_cloud.remote.connect import connect
from mock_cloud.remote.hardening_requests import arm_timer
from mock_cloud.remote.trusted import TrustedChannel, trust
from mock_cloud.wire.layout import WORKSPACE
from tests.component.cloud_nodes import Site, eventually
from tests.component.remote_parts import make_proof
from tests.lab.layout import repository_root
from tests.lab.relay import Direction, Relay

pytest_plugins = ["tests.component.cloud_fixtures"]
pytestmark = pytest.mark.lab

Reach = Callable[..., TrustedChannel]
LONG_S = 600
OURS = """
    for p in /proc/[0-9]*; do case "$(readlink $p/exe) $(tr '\\0' ' ' < $p/cmdline)" in
    /var/lib/mock-cloud/toolkit/*main.py' %s '*)
"""
PING_S = 0.5  # a quarter of the silence that is allowed


@pytest.fixture
def leased(site: Site) -> LeasedNode:
    return site.acquire(idle_ttl_s=3600.0, max_ttl_s=7200.0)


@pytest.fixture
def reach(leased: LeasedNode, packed_toolkit: Toolkit) -> Iterator[Reach]:
    """A trusted channel to the node, or to what stands for it at another port."""
    with ExitStack() as stack:

        def open_channel(
            port: int | None = None, silence_timeout_s: float = 4 * PING_S
        ) -> TrustedChannel:
            address = leased.address
            if port is not None:
                address = replace(address, host="127.0.0.1", port=port)
            key = leased.client_key
            node = connect(address, key, deadline_s=10, silence_timeout_s=silence_timeout_s)
            stack.callback(node.close)
            node.start_agent(packed_toolkit)
            return trust(node, make_proof(node.host_key))

        yield open_channel


def arm(
    channel: TrustedChannel,
    *,
    lease: str = "a1",
    life_s: int = LONG_S,
    grace_s: int = LONG_S,
    power_off: bool = True,
) -> None:
    channel.harden(arm_timer(lease, life_s, grace_s, power_off=power_off))


def runs(site: Site, leased: LeasedNode) -> bool:
    return LocalProvider(site.state_dir, None).is_running(leased.lease_id, leased.lease_id)


def ended(site: Site, leased: LeasedNode) -> float:
    """How long it took until the provider says that the node does not run."""
    started = time.monotonic()
    eventually(lambda: not runs(site, leased))
    return time.monotonic() - started


def timers(site: Site, leased: LeasedNode) -> list[str]:
    """Pids of dead-men on the node."""
    return site.ssh(leased, f"{OURS % 'deadman'} echo ${{p#/proc/}} ;; esac; done").split()


def test_the_end_of_the_lease_ends_the_node_whoever_is_at_work(
    site: Site, leased: LeasedNode, reach: Reach
) -> None:
    arm(reach(), life_s=2)
    assert runs(site, leased)
    assert ended(site, leased) > 1.0


def test_signs_of_life_keep_it_and_silence_ends_it(
    site: Site, leased: LeasedNode, reach: Reach
) -> None:
    channel = reach()
    arm(channel, grace_s=2)
    time.sleep(3.0)  # nothing is asked; pings alone
    assert runs(site, leased)
    channel.close()
    assert ended(site, leased) > 1.0


def test_a_frozen_line_is_no_sign_of_life(site: Site, leased: LeasedNode, reach: Reach) -> None:
    with Relay((leased.address.host, leased.address.port)) as relay:
        arm(reach(relay.address[1]), grace_s=2)
        relay.freeze()
        ended(site, leased)


def test_what_was_sent_is_gone_before_the_power(
    site: Site, leased: LeasedNode, reach: Reach
) -> None:
    """The supervisor, which would remove the node's disk, is stopped until that was looked at."""
    arm(reach(), life_s=2)
    facts = site.facts(leased.lease_id)
    assert facts.init is not None
    disk = site.state_dir / "nodes" / leased.lease_id / "disk"
    end_process(facts.supervisor, signal.SIGSTOP)
    try:
        site.ssh(
            leased,
            f"mkdir -p {WORKSPACE}/blobs {WORKSPACE}/jobs/a/b /var/lib/mock/x/overlay/upper.j;"
            f"for d in blobs jobs/a/b; do echo secret > {WORKSPACE}/$d/source; done;"
            "echo secret > /var/lib/mock/x/overlay/upper.j/source",
        )
        assert len(list(disk.rglob("source"))) == 3
        assert wait_gone(facts.init, 8)
        assert [path.name for path in disk.rglob("*") if path.name == "source"] == []
        assert "deadman the lease is over" in (next(disk.rglob("order.log"))).read_text()
        assert runs(site, leased)  # as far as the supervisor knew: it did not end the node
    finally:
        end_process(facts.supervisor, signal.SIGCONT)
    ended(site, leased)


CONTROLLER = """
import sys, time
from pathlib import Path
from mock_cloud.model import HostKey, NodeAddress, Secret
from mock_cloud.remote.hardening_requests import arm_timer
from mock_cloud.remote.connect import connect
from mock_cloud.remote.trusted import trust
from mock_cloud.toolkit.pack import pack_toolkit
from tests.component.remote_parts import make_proof
host, port, key, client, cache = sys.argv[1:]
address = NodeAddress(host, int(port), "root", HostKey.parse(key))
node = connect(address, Secret(Path(client).read_bytes()), deadline_s=10, silence_timeout_s=2)
node.start_agent(pack_toolkit(Path(cache)))
trust(node, make_proof(node.host_key)).harden(arm_timer("a1", 600, 2, power_off=True))
print("armed", flush=True)
time.sleep(600)
"""


def test_a_controller_that_is_killed_costs_no_more_than_the_grace(
    site: Site, leased: LeasedNode, packed_toolkit: Toolkit
) -> None:
    where = leased.address
    key = site.state_dir / "keys" / leased.lease_id
    words = [where.host, str(where.port), str(where.host_key), str(key)]
    controller = subprocess.Popen(
        [sys.executable, "-c", CONTROLLER, *words, str(packed_toolkit.archive.parent)],
        stdout=subprocess.PIPE,
        cwd=repository_root(),
    )
    try:
        assert controller.stdout is not None
        assert controller.stdout.readline() == b"armed\n"
        assert runs(site, leased)
    finally:
        controller.kill()
        controller.communicate()
    ended(site, leased)


def test_it_outlives_its_agent_and_hang_ups_and_there_is_one(
    site: Site, leased: LeasedNode, reach: Reach
) -> None:
    channel = reach()
    arm(channel)
    (first,) = timers(site, leased)
    may = "echo -1000 2>/dev/null > /proc/$$/oom_score_adj; cat /proc/$$/oom_score_adj"
    assert site.ssh(leased, f"cat /proc/{first}/oom_score_adj") == site.ssh(leased, may)
    site.ssh(leased, f"kill -HUP {first}; kill -INT {first}; kill -PIPE {first}")
    site.ssh(leased, f"{OURS % 'serve'} kill -9 ${{p#/proc/}} ;; esac; done")
    again = reach()
    arm(again)
    assert timers(site, leased) == [first]
    with pytest.raises(RemoteCommandError, match="leased as a1"):
        arm(again, lease="b2", life_s=1)
    assert runs(site, leased)
    arm(again, life_s=1)
    ended(site, leased)


def test_who_ends_the_timer_ends_the_node(site: Site, leased: LeasedNode, reach: Reach) -> None:
    arm(reach())
    (pid,) = timers(site, leased)
    site.try_ssh(leased, f"kill -TERM {pid}")
    ended(site, leased)


def test_what_a_node_is_told_takes_one_round_trip(
    site: Site, leased: LeasedNode, reach: Reach
) -> None:
    """It has all of it before the first answer arrives here."""

    def times_told() -> int:
        return int(site.ssh(leased, f"grep -c ' lease a1 ' {WORKSPACE}/order.log"))

    with Relay((leased.address.host, leased.address.port)) as relay:
        channel = reach(relay.address[1], silence_timeout_s=600.0)
        arm(channel)
        relay.freeze(Direction.DOWN)
        orders = [arm_timer("a1", LONG_S, LONG_S, power_off=True) for _ in range(3)]
        with ThreadPoolExecutor() as pool:
            refused = pool.submit(channel.harden, *orders)
            eventually(lambda: times_told() == 4)
            assert not refused.done()
            relay.thaw()
            assert refused.result() == []


@pytest.mark.slow
def test_a_full_disk_does_not_keep_it(site: Site, packed_toolkit: Toolkit) -> None:
    leased = site.acquire("full", disk_mib=64)
    node = connect(leased.address, leased.client_key, deadline_s=10)
    try:
        node.start_agent(packed_toolkit)
        arm(trust(node, make_proof(node.host_key)), life_s=2)
        site.ssh(leased, f"cat /dev/zero > {WORKSPACE}/blobs.full 2>/dev/null; true")
        assert site.try_ssh(leased, f"head -c 1M /dev/zero > {WORKSPACE}/more").returncode
        ended(site, leased)
    finally:
        node.close()


JOB = """
import os, time
if os.fork() == 0:
    os.execv("/usr/bin/sleep", ["sleep", "601"])
time.sleep(600)
"""


@pytest.mark.slow
def test_a_lent_machine_gets_everything_of_ours_removed_and_stays_up(
    site: Site, leased: LeasedNode, reach: Reach, packed_toolkit: Toolkit
) -> None:
    arm(reach(), power_off=False)
    python = " ".join(packed_toolkit.argv()[:-1])
    mock = "/var/lib/mock"
    site.ssh(
        leased,
        f"""
        mkdir -p {WORKSPACE}/blobs {WORKSPACE}/jobs/j {mock}/ours/overlay/upper.j {mock}/ours/root
        mkdir -p {mock}/both/overlay {mock}/both/root/etc {mock}/theirs/root
        mkdir -p {mock}/real/mock.j/real/root; touch {mock}/real/buildroot.lock
        echo secret > {WORKSPACE}/blobs/aa; echo secret > {WORKSPACE}/jobs/j/request.json
        touch {mock}/ours/buildroot.lock; ln -s /etc/passwd {WORKSPACE}/jobs/link
        cd {WORKSPACE}/jobs; for i in $(seq 300); do mkdir d; cd d; done
        cat > /tmp/job.py <<'END'\n{JOB}\nEND
        unshare --pid --fork {python} /tmp/job.py </dev/null >/dev/null 2>&1 &
        """,
    )
    eventually(lambda: "601" in site.ssh(leased, "cat /proc/[0-9]*/cmdline | tr '\\0' '\\n'"))
    arm(reach(), power_off=False, life_s=1)
    eventually(lambda: site.try_ssh(leased, f"test -e {WORKSPACE}/toolkit").returncode == 1)
    eventually(lambda: not timers(site, leased))
    assert "601" not in site.ssh(leased, "cat /proc/[0-9]*/cmdline | tr '\\0' '\\n'").split()
    assert site.ssh(leased, f"cd {mock}; find . | sort").split() == [
        *(".", "./both", "./both/root", "./both/root/etc", "./theirs", "./theirs/root"),
    ]
    assert runs(site, leased)
    assert site.ssh(leased, f"find {WORKSPACE}").split() == [WORKSPACE]  # a mount of the node
