# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines that break under a build: the node goes on, and is reached again."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import User
from tests.integration.faults import (
    Command,
    check_whole,
    eventually,
    find_process,
    jobs,
    lease_of,
    line_to_node,
    wait_in,
    write_remote,
)
from tests.lab import srpm
from tests.lab.relay import Direction, Relay
from tests.lab.srpm import Recipe

pytestmark = pytest.mark.lab
_MIB = 1 << 20


@pytest.fixture
def line(lone_mock: User) -> Iterator[Relay]:
    """The way to the user's node, which is warm."""
    with line_to_node(lone_mock, build__silence_timeout='"3s"') as relay:
        yield relay


@pytest.fixture(scope="session")
def short_srpm(lab_srpm: Callable[[Recipe], Path]) -> Path:
    """%build takes five seconds."""
    return lab_srpm(srpm.sleeping(5))


@pytest.fixture(scope="session")
def noise_srpm(lab_srpm: Callable[[Recipe], Path]) -> Path:
    """Its package holds 64 MiB that are not compressed."""
    return lab_srpm(
        srpm.toy(
            "toy-noise",
            preamble="BuildArch: noarch\n%global _binary_payload w.ufdio\n",
            install="head -c 64M /dev/urandom > %{buildroot}%{_datadir}/toy-noise/noise",
        )
    )


@pytest.mark.parametrize("way", ["reset", pytest.param("silent", marks=pytest.mark.slow)])
@pytest.mark.fault(19, 20)
def test_in_the_build(
    lone_mock: User, line: Relay, short_srpm: Path, tmp_path: Path, way: str
) -> None:
    """No gap and no duplicate in the logs, and one build."""
    lease, results = lease_of(lone_mock), tmp_path / "results"
    with Command(lone_mock, "--resultdir", results, short_srpm) as run:
        wait_in(results / "build.log", "tick 2")
        if way == "reset":
            line.refuse()
            line.cut()
        else:
            line.freeze()
        run.wait_for("it is tried again until")
        line.refuse(False)
        line.thaw()
        run.wait_for("reached again after")
        ended = run.ended().expect()
    if way == "silent":
        assert "the node sent nothing for 3 s" in ended.stderr
    ticks = re.findall(r"^tick \d+$", (results / "build.log").read_text(), re.MULTILINE)
    assert ticks == [f"tick {number}" for number in range(1, 6)]
    assert ended.stderr.count("Start: rpmbuild") == 1
    check_whole(results, lone_mock, lease)


@pytest.mark.parametrize("presses", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.fault(23)
def test_ctrl_c_on_a_dead_line(
    lone_mock: User, line: Relay, sleeping_srpm: Path, tmp_path: Path, presses: int
) -> None:
    """Nobody waits for a line that says nothing: the job is stopped when it is there again."""
    write_remote(lone_mock, "local", build__silence_timeout='"1h"')
    lease, results = lease_of(lone_mock), tmp_path / "results"
    with Command(lone_mock, "--resultdir", results, sleeping_srpm, terminal=True) as run:
        wait_in(results / "build.log", "tick 2")
        rpmbuild = find_process(lone_mock, "rpmbuild")
        line.freeze()
        for _ in range(presses):
            run.press(b"\x03")
            run.wait_for("Ctrl-C again leaves that to the background")
        ended = run.ended()
    assert ended.code == 7
    assert "is stopped in the background" in ended.stderr
    assert ("did not answer within" in ended.stderr) is (presses == 1)
    (job,) = jobs(lone_mock)
    assert job["state"] in ("running", "left")
    line.cut()
    line.thaw()
    eventually(lambda: jobs(lone_mock) == [])
    assert not Path(f"/proc/{rpmbuild}").exists()
    (row,) = lone_mock.nodes()
    assert (row["lease"], row["state"]) == (lease, "ready")
    assert "tick 2" in (results / "build.log").read_text()


@pytest.mark.slow
@pytest.mark.fault(30)
def test_while_results_come(lone_mock: User, line: Relay, noise_srpm: Path, tmp_path: Path) -> None:
    """Cut twice, and one bit flipped: each time the rest is fetched, and no more."""
    lease, results = lease_of(lone_mock), tmp_path / "results"
    with Command(lone_mock, "--resultdir", results, noise_srpm) as run:
        run.wait_for("Start: rpmbuild")
        before = line.moved_bytes(Direction.DOWN)
        line.cut_after(20 * _MIB, Direction.DOWN)
        run.wait_for("it is tried again until")
        line.corrupt_after(20 * _MIB, Direction.DOWN)
        ended = run.ended().expect()
    assert ended.stderr.count("reached again after") == 2
    assert line.moved_bytes(Direction.DOWN) - before < 100 * _MIB
    check_whole(results, lone_mock, lease)


@pytest.mark.slow
@pytest.mark.fault(18)
def test_while_sources_go(lone_mock: User, line: Relay, large_srpm: Path, tmp_path: Path) -> None:
    """Of 200 MB that are cut at 150 MB, 50 MB more are sent."""
    lease, results = lease_of(lone_mock), tmp_path / "results"
    size, before, cut_at = large_srpm.stat().st_size, line.moved_bytes(Direction.UP), 150 * _MIB
    with Command(lone_mock, "--resultdir", results, large_srpm) as run:
        run.wait_for("node trusted")
        began = line.moved_bytes(Direction.UP)
        line.cut_after(cut_at, Direction.UP)
        ended = run.ended().expect()
    assert ended.stderr.count("reached again after") == 1
    after = line.moved_bytes(Direction.UP) - began - cut_at
    print(f"{size} bytes, cut at {cut_at}: {after} more, {began - before} before")
    assert size - cut_at <= after < size - cut_at + 16 * _MIB
    check_whole(results, lone_mock, lease)


@pytest.mark.slow
def test_a_slow_line(lone_mock: User, lab_srpm: Callable[[Recipe], Path], tmp_path: Path) -> None:
    """Of 100 kB/s and 200 ms: what waits in it for longer than a silence may last is no silence."""
    data = random.Random(13).randbytes(4 * _MIB)  # noqa: S311  reproducible, not secret
    package = lab_srpm(
        srpm.toy("toy-slow-line", preamble="BuildArch: noarch\n", sources={"noise.bin": data})
    )
    with line_to_node(lone_mock) as slow:
        lease, before = lease_of(lone_mock), slow.moved_bytes(Direction.UP)
        slow.latency_s, slow.bandwidth_bytes_s = 0.1, 100e3
        ended = lone_mock.mock("--resultdir", tmp_path / "results", package).expect()
        slow.latency_s, slow.bandwidth_bytes_s = 0.0, None
        assert slow.moved_bytes(Direction.UP) - before < package.stat().st_size + _MIB
        assert "is lost" not in ended.stderr
        check_whole(tmp_path / "results", lone_mock, lease)
