# SPDX-License-Identifier: GPL-2.0-or-later
"""What befalls a build seldom: a clock that is set, a machine that sleeps, no memory, silence."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fault_table import saw
from tests.integration.conftest import User
from tests.integration.faults import (
    Clock,
    Command,
    check_gone,
    check_whole,
    eventually,
    find_process,
    jobs,
    lease_of,
    line_to_node,
    node_facts,
    wait_in,
    write_remote,
)
from tests.lab import srpm
from tests.lab.relay import Relay
from tests.lab.srpm import Recipe
from tests.memory_hierarchy import hierarchy

pytestmark = [pytest.mark.lab, pytest.mark.slow]

LabSrpm = Callable[[Recipe], Path]
_DAY_S = 86400.0
_LIMIT_BYTES = 256 << 20


@pytest.fixture
def line(lone_mock: User) -> Iterator[Relay]:
    """The way to the user's node, which is warm."""
    with line_to_node(lone_mock, build__silence_timeout='"3s"') as relay:
        yield relay


@pytest.mark.fault(21)
def test_the_machine_sleeps(
    lone_mock: User,
    line: Relay,
    lab_srpm: LabSrpm,
    tmp_path: Path,
) -> None:
    """The command stands still, and its line has been forgotten when it goes on."""
    lease, results = lease_of(lone_mock), tmp_path / "results"
    with Command(lone_mock, "--resultdir", results, lab_srpm(srpm.sleeping(5))) as run:
        wait_in(results / "build.log", "tick 2")
        os.kill(run.child.pid, signal.SIGSTOP)
        init = node_facts(lone_mock).init
        assert init is not None
        made = Path(f"/proc/{init.pid}/root/var/lib/mock-cloud/jobs")
        eventually(lambda: len(list(made.glob("*/results/*.rpm"))) == 2)
        line.cut()
        os.kill(run.child.pid, signal.SIGCONT)
        ended = run.ended().expect()
    assert "reached again after" in ended.stderr
    check_whole(results, lone_mock, lease)


@pytest.mark.fault(31)
@pytest.mark.parametrize("by_s", [_DAY_S, -_DAY_S], ids=["ahead", "back"])
def test_the_clock_is_set_by_a_day(
    lone_mock: User, lab_srpm: LabSrpm, tmp_path: Path, by_s: float
) -> None:
    """The node lives as long as before, and what is warm stays so."""
    clock = Clock(lone_mock)
    with Command(clock.user, "--resultdir", tmp_path, lab_srpm(srpm.sleeping(5))) as run:
        wait_in(tmp_path / "build.log", "tick 2")
        before = lease_of(clock.user)
        clock.set_ahead(by_s)
        run.ended().expect()
    assert len(list(tmp_path.glob("*.rpm"))) == 2
    (row,) = clock.user.nodes()
    assert (row["lease"], row["state"]) == (before, "ready")
    clock.set_ahead(0)  # no manifest is accepted that is of tomorrow
    clock.user.mock("--chroot", "true").expect()
    assert lease_of(clock.user) == before


@pytest.mark.fault(26)
def test_killed_for_memory(lone_mock: User, lab_srpm: LabSrpm, tmp_path: Path) -> None:
    place = hierarchy()
    greedy = "echo begun\nuntil test -e /tmp/go; do sleep 0.1; done\ntail /dev/zero\n"
    package = lab_srpm(srpm.toy("toy-greedy", preamble="BuildArch: noarch\n", build=greedy))
    with Command(lone_mock, "--progress=plain", "--resultdir", tmp_path, package) as run:
        wait_in(tmp_path / "build.log", "begun")
        (job,) = jobs(lone_mock)
        (group,) = place.glob(f"mock-cloud-job-{job['job']}")
        (group / "memory.limit_in_bytes").write_text(str(_LIMIT_BYTES))
        Path(f"/proc/{find_process(lone_mock, 'rpm-tmp')}/root/tmp/go").touch()
        ended = run.ended().expect(1)
    lines = ended.stderr.splitlines()  # the first one names this test
    told = [one for one in lines if "memory" in one and "test_killed_for_memory" not in one]
    assert told, ended.stderr
    saw(f"1: {told[0]}")


@pytest.mark.fault(36)
def test_a_build_that_says_nothing(lone_mock: User, lab_srpm: LabSrpm, tmp_path: Path) -> None:
    write_remote(lone_mock, "local", build__output_timeout='"5s"')
    silent = srpm.toy("toy-silent", preamble="BuildArch: noarch\n", build="sleep 1000\n")
    ended = lone_mock.mock("--resultdir", tmp_path, lab_srpm(silent)).expect(11)
    assert "nothing was printed for 5 s" in ended.stderr and "sleep 1000" in ended.stderr
    (row,) = lone_mock.nodes()
    assert row["state"] == "ready"


@pytest.mark.fault(33)
def test_a_base_layer_is_damaged(lone_mock: User, plain_srpm: Path, tmp_path: Path) -> None:
    """What another job would be built in is not what was made: the node is not trusted any more."""
    lone_mock.mock("--resultdir", tmp_path / "one", plain_srpm).expect()
    init = node_facts(lone_mock).init
    assert init is not None
    layers = Path(f"/proc/{init.pid}/root/var/lib/mock-cloud/layers")
    victim = next(layers.rglob("usr/bin/rpmbuild"))
    with victim.open("ab") as stream:
        stream.write(b"\0")
    ended = lone_mock.mock("--resultdir", tmp_path / "two", plain_srpm).expect(77)
    assert "layer.digest" in ended.stderr and not list((tmp_path / "two").glob("*.rpm"))
    check_gone(lone_mock)
