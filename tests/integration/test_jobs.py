# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds that outlive the command that began them."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mock_cloud.cloud.journal import Journal
from tests.integration.conftest import BIN, User
from tests.integration.faults import (
    Command,
    check_failure,
    eventually,
    find_process,
    jobs,
    node_facts,
    wait_in,
)
from tests.lab import srpm
from tests.lab.srpm import Recipe
from tests.lab.sshd import Sshd

pytestmark = pytest.mark.lab


@pytest.fixture(scope="session")
def short_srpm(lab_srpm: Callable[[Recipe], Path]) -> Path:
    """%build takes five seconds."""
    return lab_srpm(srpm.sleeping(5))


def only_job(user: User) -> str:
    (job,) = jobs(user)
    return str(job["job"])


def check_whole(results: Path, ticks: int = 5) -> None:
    """All of one build is there, once, and signed."""
    assert len(list(results.glob("*.rpm"))) == 2
    assert not list(results.glob(".mock-cloud*"))
    said = re.findall(r"^tick \d+$", (results / "build.log").read_text(), re.MULTILINE)
    assert said == [f"tick {number}" for number in range(1, ticks + 1)]
    assert (results / "remote_provenance.json").exists()


def killed_in_build(user: User, results: Path, package: Path) -> str:
    """The name of a job whose command was killed in %build."""
    with Command(user, "--resultdir", results, package) as run:
        wait_in(results / "build.log", "tick 2")
        run.send(signal.SIGKILL)
        run.child.wait()
    return only_job(user)


@pytest.mark.parametrize("way", [pytest.param("attach", marks=pytest.mark.slow), "typed again"])
@pytest.mark.fault(22)
def test_a_killed_commands_build_is_taken_up(
    mock: User, short_srpm: Path, tmp_path: Path, way: str
) -> None:
    """Same exit code, results, logs; and its packages are verified as any."""
    (before,) = mock.nodes()
    name = killed_in_build(mock, tmp_path, short_srpm)
    (job,) = jobs(mock)
    assert (job["state"], job["pid"], job["resultdir"]) == ("left", 0, str(tmp_path))
    assert job["until_unix"] > job["started_unix"] + 1800
    if way == "attach":
        ended = mock.cloud("attach", name[-8:], "--configdir", mock.config.path).expect()
    else:
        ended = mock.mock("--resultdir", tmp_path, short_srpm).expect()
        assert f"job {name} of this command line is taken up" in ended.stderr
    assert f"Results and/or logs in: {tmp_path}" in ended.stderr
    check_whole(tmp_path)
    mock.cloud("verify", tmp_path).expect()
    assert jobs(mock) == []
    assert [row["lease"] for row in mock.nodes()] == [before["lease"]]
    assert [one["exit"] for one in jobs(mock, "--all") if one["job"] == name] == [0]
    again = mock.cloud("attach", name, "--configdir", mock.config.path).expect()
    assert "has ended" in again.stderr


@pytest.mark.slow
def test_another_command_leaves_it_alone(
    lone_mock: User, short_srpm: Path, plain_srpm: Path, tmp_path: Path
) -> None:
    name = killed_in_build(lone_mock, tmp_path / "one", short_srpm)
    ended = lone_mock.mock("--chroot", "true")
    check_failure(ended, 60, f"that of job {name}", hint=f"mock-cloud attach {name}")
    lone_mock.mock("--resultdir", tmp_path / "two", plain_srpm).expect()
    assert len(lone_mock.nodes()) == 2
    lone_mock.cloud("attach", name, "--configdir", lone_mock.config.path).expect()
    check_whole(tmp_path / "one")


def test_detached(mock: User, short_srpm: Path, tmp_path: Path) -> None:
    ended = mock.mock("--detach", "--resultdir", tmp_path, short_srpm).expect()
    name = ended.stdout.strip()
    assert only_job(mock) == name
    check_failure(mock.mock("--detach", tmp_path / "none.src.rpm"), 1, "none.src.rpm")
    attached = mock.cloud("attach", name).expect()
    assert "Finish: rpmbuild" in attached.stderr
    check_whole(tmp_path)
    assert "tick 5" in mock.cloud("logs", name).expect().stdout
    mock.cloud("wait", name).expect()


def test_cancelled(mock: User, sleeping_srpm: Path, tmp_path: Path) -> None:
    """Followed in the background, and followed by nobody."""
    (before,) = mock.nodes()
    name = mock.mock("--detach", "--resultdir", tmp_path, sleeping_srpm).expect().stdout.strip()
    wait_in(tmp_path / "build.log", "tick 2")
    rpmbuild = find_process(mock, "rpmbuild")
    mock.cloud("cancel", name).expect()
    assert not Path(f"/proc/{rpmbuild}").exists()
    assert "tick 2" in (tmp_path / "build.log").read_text()
    mock.cloud("wait", name).expect(7)
    left = killed_in_build(mock, tmp_path / "left", sleeping_srpm)
    rpmbuild = find_process(mock, "rpmbuild")
    mock.cloud("cancel", left, "--configdir", mock.config.path).expect()
    assert not Path(f"/proc/{rpmbuild}").exists()
    (row,) = mock.nodes()
    assert (row["lease"], row["state"]) == (before["lease"], "ready")
    assert jobs(mock) == []


@pytest.mark.slow
def test_the_terminal_is_closed(mock: User, short_srpm: Path, tmp_path: Path) -> None:
    """The build goes on in the background, and its results come."""
    with Command(mock, "--resultdir", tmp_path, short_srpm, terminal=True) as run:
        run.wait_for("tick 1")
        run.hang_up()
        assert run.ended().code == 129
    mock.cloud("wait", only_job(mock)).expect()
    check_whole(tmp_path)


@pytest.mark.fault(23)
def test_a_second_ctrl_c_leaves_the_rest(mock: User, sleeping_srpm: Path, tmp_path: Path) -> None:
    (before,) = mock.nodes()
    with Command(mock, "--resultdir", tmp_path, sleeping_srpm, terminal=True) as run:
        run.wait_for("tick 2")
        run.press(b"\x03")
        run.wait_for("Ctrl-C again leaves that to the background")
        run.press(b"\x03")
        ended = run.ended()
    assert ended.code == 7
    eventually(lambda: jobs(mock) == [])
    (row,) = mock.nodes()
    assert (row["lease"], row["state"]) == (before["lease"], "ready")


@pytest.mark.slow
def test_a_shell_in_the_chroot_of_a_failed_build(
    mock: User, failing_srpm: Path, tmp_path: Path
) -> None:
    mock.mock("--no-cleanup-after", "--resultdir", tmp_path, failing_srpm).expect(1)
    name = jobs(mock, "--all")[-1]["job"]
    words = (str(BIN / "mock-cloud"), "attach", "--shell", name)
    inside = mock.run([*words], stdin=b"ls /builddir/build/SPECS\n").expect()
    assert "toy-failing.spec" in inside.stdout
    mock.mock("--clean").expect()
    check_failure(mock.run([*words]), 50, "is on no node", hint="--no-cleanup-after")


# What a node, or who stands before it, could gain by being reached a second time


@pytest.mark.slow
def test_other_bytes_for_what_was_logged(lone_mock: User, short_srpm: Path, tmp_path: Path) -> None:
    name = killed_in_build(lone_mock, tmp_path, short_srpm)
    here = (tmp_path / "build.log").read_bytes()
    (log,) = node_root(lone_mock).glob(f"var/lib/mock-cloud/jobs/{name}/results/build.log")
    with log.open("r+b") as stream:
        stream.write(b"tick 0")
    ended = lone_mock.cloud("attach", name, "--configdir", lone_mock.config.path)
    check_failure(ended, 75, "build.log holds", "are not the")
    assert list(tmp_path.glob("*.rpm")) == []
    assert (tmp_path / "build.log").read_bytes().startswith(here)


@pytest.mark.slow
def test_another_machine_in_its_place(lone_mock: User, short_srpm: Path, tmp_path: Path) -> None:
    name = killed_in_build(lone_mock, tmp_path / "results", short_srpm)
    journal = Journal(lone_mock.place / "state/mock-cloud")
    with Sshd(tmp_path / "sshd") as impostor:
        with journal.transaction() as books:
            (lease,) = books.leases()
            assert lease.address is not None
            there = impostor.address_with(lease.address.host_key)
            books.write(replace(lease, address=there))
        ended = lone_mock.cloud("attach", name, "--configdir", lone_mock.config.path)
        check_failure(ended, 77, "expected host key", hint="Nothing was sent")
        assert "Accepted" not in impostor.log
    with journal.transaction() as books:
        (now,) = books.leases()
        books.write(replace(now, address=lease.address))
    lone_mock.cloud("attach", name, "--configdir", lone_mock.config.path).expect()
    check_whole(tmp_path / "results")


def node_root(user: User) -> Path:
    init = node_facts(user).init
    assert init is not None
    return Path(f"/proc/{init.pid}/root")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that has no room for packages."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "small", str(place)]
    subprocess.run(command, check=True)
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.fault(28)
def test_a_full_disk_keeps_the_results_waiting(
    mock: User, short_srpm: Path, small_disk: Path
) -> None:
    ended = mock.mock("--resultdir", small_disk, short_srpm)
    check_failure(ended, 75, f"the disk {small_disk}", hint="mock-cloud attach")
    name = only_job(mock)
    command = ["mount", "-o", "remount,size=100m", str(small_disk)]
    subprocess.run(command, check=True)
    mock.cloud("attach", name, "--configdir", mock.config.path).expect()
    check_whole(small_disk)
    assert shutil.disk_usage(small_disk).used > 0
