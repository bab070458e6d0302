# SPDX-License-Identifier: GPL-2.0-or-later
"""Several packages in one command: each appears when it is done; at once on several nodes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mock_cloud.cloud.journal import Journal
from mock_cloud.cloud.local.files import find_facts
from tests.integration.conftest import User
from tests.lab.srpm import Recipe, toy, twelve

pytestmark = pytest.mark.lab

LabSrpm = Callable[[Recipe], Path]


@pytest.fixture
def wide(lone_mock: User) -> User:
    """A user who may have three nodes, and has none."""
    file = lone_mock.config.remote_file
    file.write_text(f"{file.read_text()}max_nodes = 3\n")
    return lone_mock


def wait_for(is_so: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    while not is_so():
        assert process.poll() is None
        time.sleep(0.05)


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir() if path.is_file()}


def packages_in(repository: Path) -> set[bytes]:
    """The packages of which the repository has metadata."""
    (primary,) = (repository / "repodata").glob("*-primary.xml.*")
    unpack = {".gz": "gzip", ".zst": "zstd"}[primary.suffix]
    text = subprocess.run([unpack, "-dc", primary], capture_output=True, check=True).stdout
    return set(re.findall(rb'location href="([^"]*)"', text))


def test_each_package_is_there_while_the_next_one_is_built(
    mock: User, plain_srpm: Path, lab_srpm: LabSrpm, tmp_path: Path
) -> None:
    slow = lab_srpm(toy("toy-slow", preamble="BuildArch: noarch\n", build="sleep 6\n"))
    results = tmp_path / "results"
    process = mock.start("--resultdir", results, plain_srpm, slow, stderr=subprocess.PIPE)
    wait_for(lambda: bool(list(results.glob("toy-plain-*.noarch.rpm"))), process)
    assert not list(results.glob("toy-slow-*.rpm"))
    _, err = process.communicate()
    assert process.returncode == 0, err.decode()
    assert list(results.glob("toy-slow-*.noarch.rpm"))
    assert mock.cloud("verify", results).code == 0


@pytest.mark.slow
def test_at_once_on_several_nodes_is_the_same_as_on_one(
    wide: User, lab_srpm: LabSrpm, plain_srpm: Path, tmp_path: Path
) -> None:
    srpms = [lab_srpm(toy(f"toy-wide-{one}", build="sleep 3\n")) for one in "ab"]
    one, several = tmp_path / "one", tmp_path / "several"
    wide.mock("--resultdir", one, *srpms, plain_srpm).expect()
    ended = wide.mock("--jobs", "3", "--resultdir", several, *srpms, plain_srpm).expect()
    assert "INFO: 3 packages, on up to 3 nodes at once\n" in ended.stderr
    assert len(wide.nodes()) == 3
    left = {name for name in names(one) if not name.startswith("remote_")}
    assert names(several) == left
    assert (several / "build.log").read_text().count("Mock Version: ") == 3
    compared = wide.cloud("compare", "--json", one, several)
    assert compared.code == 0, compared.stdout + compared.stderr
    for srpm in (*srpms, plain_srpm):
        wide.cloud("verify", several / srpm.name.removesuffix(".src.rpm")).expect()


@pytest.mark.slow
def test_one_that_fails_ends_the_command_as_on_one_node(
    wide: User, failing_srpm: Path, lab_srpm: LabSrpm, plain_srpm: Path, tmp_path: Path
) -> None:
    slow = lab_srpm(toy("toy-slow", preamble="BuildArch: noarch\n", build="sleep 6\n"))
    code = wide.mock("--resultdir", tmp_path / "one", slow, failing_srpm, plain_srpm).code
    ended = wide.mock(
        "--jobs=2", "--resultdir", tmp_path / "two", slow, failing_srpm, plain_srpm
    ).expect(code)
    assert "not begun, since another one failed: toy-plain-1-1" in ended.stderr
    assert "about to fail" in (tmp_path / "two/build.log").read_text()
    assert [path.name for path in (tmp_path / "two").glob("*.noarch.rpm")] == [
        path.name for path in (tmp_path / "one").glob("*.noarch.rpm")
    ]


@pytest.mark.slow
def test_a_nodes_end_costs_its_own_package_an_attempt_and_no_other(
    wide: User, lab_srpm: LabSrpm, tmp_path: Path
) -> None:
    file = wide.config.remote_file
    file.write_text(file.read_text().replace("retries = 0", "retries = 1"))
    build, noarch = "echo at work\nsleep 12\n", "BuildArch: noarch\n"
    srpms = [lab_srpm(toy(f"toy-pair-{one}", preamble=noarch, build=build)) for one in "ab"]
    results = tmp_path / "results"
    process = wide.start("--jobs=2", "--resultdir", results, *srpms, stderr=subprocess.PIPE)
    logs = [results / f"toy-pair-{one}-1-1/build.log" for one in "ab"]
    wait_for(lambda: all(one.exists() and "at work" in one.read_text() for one in logs), process)
    state = wide.place / "state/mock-cloud"
    (lease,) = [one for one in Journal(state).leases() if one.chroot.endswith("job-1")]
    facts = find_facts(state / "nodes" / lease.id)
    assert facts is not None and facts.init is not None
    os.kill(facts.init.pid, signal.SIGKILL)
    _, err = process.communicate()
    assert process.returncode == 0, err.decode()
    again = [line for line in err.decode().splitlines() if "another one is tried" in line]
    assert len(again) == 1 and again[0].startswith("toy-pair-a-1-1: "), err.decode()
    assert len([name for name in names(results) if name.endswith(".noarch.rpm")]) == 2
    assert logs[1].read_text().count("+ echo at work") == 1
    for package in ("toy-pair-a-1-1", "toy-pair-b-1-1"):
        wide.cloud("verify", results / package).expect()


@pytest.mark.slow
def test_ctrl_c_stops_all_and_keeps_the_warm_nodes(
    wide: User, lab_srpm: LabSrpm, tmp_path: Path
) -> None:
    srpms = [lab_srpm(toy(f"toy-long-{one}", build="echo at work\nsleep 600\n")) for one in "ab"]
    results = tmp_path / "results"
    process = wide.start("--jobs=2", "--resultdir", results, *srpms, stderr=subprocess.PIPE)

    def is_at_work() -> bool:
        logs = [results / f"toy-long-{one}-1-1/build.log" for one in "ab"]
        return all(log.exists() and "at work" in log.read_text() for log in logs)

    wait_for(is_at_work, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 7, err.decode()
    assert (results / "build.log").read_text().count("at work") >= 2
    jobs = json.loads(wide.cloud("jobs", "--all", "--json").expect().stdout)
    assert {job["state"] for job in jobs} == {"ended"}


@pytest.mark.slow
def test_a_chain_on_three_nodes_is_the_chain_on_one(
    wide: User, lab_srpm: LabSrpm, tmp_path: Path
) -> None:
    chain = [lab_srpm(recipe) for recipe in twelve()]
    one, several = tmp_path / "one", tmp_path / "several"
    wide.mock("--chain", "--localrepo", one, *chain).expect()
    ended = wide.mock("--chain", "--jobs=3", "--localrepo", several, *chain).expect()
    assert "Packages built: 12" in ended.stderr
    root = wide.config.chroot()
    here, there = one / "results" / root, several / "results" / root
    assert wide.cloud("compare", here, there).code == 0
    for srpm in chain:
        name = srpm.name.removesuffix(".src.rpm")
        assert {one for one in names(there / name) if not one.startswith("remote_")} == names(
            here / name
        )
        wide.cloud("verify", there / name).expect()
    assert packages_in(there) == packages_in(here)
    again = wide.mock("--chain", "--jobs=3", "--localrepo", several, *chain).expect()
    assert "Packages skipped: 12" in again.stderr and "Packages built: 0" in again.stderr
