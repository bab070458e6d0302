# SPDX-License-Identifier: GPL-2.0-or-later
"""Ctrl-C and other signals in each phase: mock's exit code, and all is left as it was found."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import Ended, User
from tests.integration.faults import (
    Command,
    Earlier,
    check_gone,
    eventually,
    find_process,
    node_directories,
    open_files,
    scratch,
)
from tests.lab import srpm
from tests.lab.srpm import Recipe

pytestmark = pytest.mark.lab
_SAID = "Exiting on user interrupt, <CTRL>-C"


@pytest.fixture(scope="session")
def big_result_srpm(lab_srpm: Callable[[Recipe], Path]) -> Path:
    """Its package holds 200 MiB that are not compressed."""
    return lab_srpm(
        srpm.toy(
            "toy-big-result",
            preamble="BuildArch: noarch\n%global _binary_payload w.ufdio\n",
            install="head -c 200M /dev/urandom > %{buildroot}%{_datadir}/toy-big-result/noise",
        )
    )


@pytest.fixture
def earlier(tmp_path: Path) -> Iterator[Earlier]:
    results = Earlier(tmp_path / "results")
    yield results
    results.check()


@pytest.fixture
def tmp(tmp_path: Path) -> Iterator[Path]:
    with scratch(tmp_path / "tmp") as path:
        yield path


def check_interrupted(ended: Ended) -> None:
    text = ended.stderr
    assert "Traceback" not in text and "Exception ignored" not in text, text
    assert ended.code == 7, text
    assert text.count("ERROR:") == 1 and f"ERROR: {_SAID}\n" in text, text


def check_warm(user: User, before: dict[str, object]) -> None:
    """The node is the one that was there, ready for the next build."""
    (row,) = user.nodes()
    assert (row["lease"], row["state"]) == (before["lease"], "ready")
    assert row["holder_pid"] == 0


# A node of the command's own goes


def test_while_hashing(lone_mock: User, large_srpm: Path, earlier: Earlier, tmp: Path) -> None:
    with Command(lone_mock, "--resultdir", earlier.path, large_srpm, terminal=True, tmp=tmp) as run:
        eventually(lambda: large_srpm in open_files(run.child.pid))
        run.press(b"\x03")
        check_interrupted(run.ended())
    check_gone(lone_mock)
    earlier.check_untouched()


@pytest.mark.parametrize(
    "phase",
    [
        "creating a node",
        pytest.param("connecting to", marks=pytest.mark.slow),
        "pushing the toolkit",
        pytest.param("measuring the node", marks=pytest.mark.slow),
        "Start: installing minimal buildroot",
    ],
)
def test_a_new_node_goes(
    lone_mock: User, plain_srpm: Path, earlier: Earlier, tmp: Path, phase: str
) -> None:
    with Command(lone_mock, "--resultdir", earlier.path, plain_srpm, terminal=True, tmp=tmp) as run:
        run.wait_for(phase)
        run.press(b"\x03")
        check_interrupted(run.ended())
    check_gone(lone_mock)


# A node that was there stays


@pytest.mark.parametrize(
    "phase",
    [pytest.param("warm node", marks=pytest.mark.slow), "measuring the node", "MiB of 200 MiB"],
)
def test_a_warm_node_stays_before_the_job(
    mock: User, large_srpm: Path, plain_srpm: Path, earlier: Earlier, tmp: Path, phase: str
) -> None:
    (before,) = mock.nodes()
    with Command(mock, "--resultdir", earlier.path, large_srpm, terminal=True, tmp=tmp) as run:
        run.wait_for(phase)
        run.press(b"\x03")
        check_interrupted(run.ended())
    check_warm(mock, before)
    mock.mock("--resultdir", earlier.path.with_name("next"), plain_srpm).expect()
    check_warm(mock, before)


@pytest.mark.fault(23)
def test_in_rpmbuild(
    mock: User, sleeping_srpm: Path, plain_srpm: Path, earlier: Earlier, tmp: Path
) -> None:
    (before,) = mock.nodes()
    with Command(mock, "--resultdir", earlier.path, sleeping_srpm, terminal=True, tmp=tmp) as run:
        run.wait_for("tick 2")
        rpmbuild = find_process(mock, "rpmbuild")
        run.press(b"\x03")
        check_interrupted(run.ended())
    assert not Path(f"/proc/{rpmbuild}").exists()
    check_warm(mock, before)
    assert "tick 2" in earlier.log("build.log")
    mock.mock("--resultdir", earlier.path.with_name("next"), plain_srpm).expect()
    check_warm(mock, before)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 7), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_signals_without_a_terminal(
    mock: User, sleeping_srpm: Path, earlier: Earlier, tmp: Path, number: signal.Signals, code: int
) -> None:
    (before,) = mock.nodes()
    with Command(mock, "--resultdir", earlier.path, sleeping_srpm, tmp=tmp) as run:
        run.wait_for("Start: rpmbuild")
        run.send(number)
        ended = run.ended()
    assert ended.code == code
    says = _SAID if number is signal.SIGINT else f"Exiting on signal {number.name}"
    assert ended.stderr.count("ERROR:") == 1 and f"ERROR: {says}\n" in ended.stderr
    assert "Traceback" not in ended.stderr
    check_warm(mock, before)


@pytest.mark.parametrize(
    ("number", "is_left"),
    [
        (signal.SIGTERM, True),
        pytest.param(signal.SIGINT, False, marks=pytest.mark.slow),
    ],
)
def test_the_chroot_after_a_signal(
    mock: User,
    sleeping_srpm: Path,
    tmp_path: Path,
    tmp: Path,
    number: signal.Signals,
    is_left: bool,
) -> None:
    """mock cleans up after Ctrl-C as after a failure, and leaves all as it is on SIGTERM."""
    with Command(mock, "-n", "--resultdir", tmp_path / "results", sleeping_srpm, tmp=tmp) as run:
        run.wait_for("Start: rpmbuild")
        run.send(number)
        run.ended()
    found = mock.mock("--quiet", "--chroot", "ls /builddir/build/SPECS").expect()
    assert bool(found.stdout.strip()) is is_left
    mock.mock("--clean").expect()


def test_nobody_reads_what_is_printed(
    mock: User, plain_srpm: Path, tmp: Path, tmp_path: Path
) -> None:
    """As with `mock … 2>&1 | head -1`: the build goes on."""
    with Command(mock, "--resultdir", tmp_path / "results", plain_srpm, tmp=tmp) as run:
        run.wait_for("INFO:")
        run.hang_up()
        assert run.ended().code == 0
    assert (tmp_path / "results/toy-plain-1-1.lab1.noarch.rpm").exists()


@pytest.mark.slow
def test_while_fetching(
    mock: User, big_result_srpm: Path, plain_srpm: Path, earlier: Earlier, tmp: Path
) -> None:
    (before,) = mock.nodes()
    with Command(mock, "--resultdir", earlier.path, big_result_srpm, terminal=True, tmp=tmp) as run:
        run.wait_for("\x1b[1mresults")
        run.press(b"\x03")
        check_interrupted(run.ended())
    check_warm(mock, before)
    mock.mock("--resultdir", earlier.path.with_name("next"), plain_srpm).expect()
    check_warm(mock, before)


# The controller is killed


@pytest.mark.slow
def test_a_killed_controller(lone_mock: User, sleeping_srpm: Path, plain_srpm: Path) -> None:
    """The node is shown as abandoned, and the next build in the same chroot has another one."""
    with Command(lone_mock, sleeping_srpm) as run:
        run.wait_for("Start: installing minimal buildroot")
        run.send(signal.SIGKILL)
        run.child.wait()
    (row,) = lone_mock.nodes()
    assert (row["state"], row["holder_pid"]) == ("abandoned", 0)
    lone_mock.mock(plain_srpm).expect()
    assert {one["lease"]: one["state"] for one in lone_mock.nodes()}.pop(
        row["lease"]
    ) == "abandoned"


@pytest.mark.fault(22)
def test_a_killed_controllers_node_ends_by_itself(lone_mock: User, sleeping_srpm: Path) -> None:
    with lone_mock.config.remote_file.open("a") as stream:
        stream.write("idle_ttl = 1\ngrace = 1\n")
    with Command(lone_mock, sleeping_srpm) as run:
        run.wait_for("Start: run")
        (directory,) = node_directories(lone_mock)
        run.send(signal.SIGKILL)
        run.child.wait()
    eventually(lambda: not directory.exists())
    check_gone(lone_mock)


def test_a_stopped_job_of_a_mode_without_logs(mock: User) -> None:
    (before,) = mock.nodes()
    with Command(mock, "--chroot", "echo begun; sleep 100") as run:
        run.wait_for("begun")
        run.send(signal.SIGINT)
        check_interrupted(run.ended())
    check_warm(mock, before)


@pytest.mark.slow
@pytest.mark.parametrize("round_number", range(20))
def test_a_new_node_goes_at_any_moment(
    lone_mock: User, plain_srpm: Path, tmp_path: Path, round_number: int
) -> None:
    """From the first message on; the moments are spread over the first seconds of a build."""
    with scratch(tmp_path / "tmp") as tmp, Command(lone_mock, plain_srpm, tmp=tmp) as run:
        run.wait_for("INFO: mock.py")
        time.sleep(random.Random(round_number).uniform(0, 4))  # noqa: S311 (no secret)
        run.send(signal.SIGINT)
        check_interrupted(run.ended())
    check_gone(lone_mock)
