# SPDX-License-Identifier: GPL-2.0-or-later
"""Several packages in one command: each appears when it is done; at once on several nodes."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.conftest import User
from tests.lab.srpm import Recipe, toy

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
