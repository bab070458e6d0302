# SPDX-License-Identifier: GPL-2.0-or-later
"""--chain: packages built one against the other, and the local repository that is left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.conftest import User
from tests.lab.srpm import Recipe, toy

pytestmark = pytest.mark.lab


def tree(directory: Path) -> set[str]:
    found = (path.relative_to(directory) for path in directory.rglob("*") if path.is_file())
    return {str(path) for path in found}


def test_a_chain_and_a_later_one_in_its_repository(
    mock: User, chain_srpms: tuple[Path, Path], tmp_path: Path
) -> None:
    first, second = chain_srpms
    repository = tmp_path / "repository"
    ended = mock.mock("--chain", "--localrepo", repository, first).expect()
    results = repository / "results" / mock.config.chroot()
    assert f"Results and/or logs in: {results}/toy-chain-a-1-1\n" in ended.stderr
    files = tree(results)
    assert {
        "repodata/repomd.xml",
        "toy-chain-a-1-1/success",
        "toy-chain-a-1-1/build.log",
        "toy-chain-a-1-1/hw_info.log",
        "toy-chain-a-1-1/root.log",
        "toy-chain-a-1-1/state.log",
        "toy-chain-a-1-1/toy-chain-a-1-1.lab1.x86_64.rpm",
        "toy-chain-a-1-1/toy-chain-a-1-1.lab1.src.rpm",
    } <= files
    # The second is built against what the first command left, which is not built again.
    before = (results / "toy-chain-a-1-1/toy-chain-a-1-1.lab1.x86_64.rpm").stat()
    ended = mock.mock("--chain", "--localrepo", repository, first, second).expect()
    assert f"Skipping already built pkg {first.name}" in ended.stderr
    assert "Packages built: 1" in ended.stderr
    after = (results / "toy-chain-a-1-1/toy-chain-a-1-1.lab1.x86_64.rpm").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert "toy-chain-b-1-1/success" in tree(results)
    metadata = [path.name for path in (results / "repodata").glob("*-primary.xml*")]
    assert len(metadata) == 1
    repomd = (results / "repodata/repomd.xml").read_text()
    assert metadata[0] in repomd
    installed = (results / "toy-chain-b-1-1/installed_pkgs.log").read_text()
    assert "toy-chain-a-1-1.lab1.x86_64" in installed


@pytest.mark.slow
def test_a_chain_of_which_some_fail(
    mock: User,
    chain_srpms: tuple[Path, Path],
    failing_srpm: Path,
    plain_srpm: Path,
    lab_srpm: Callable[[Recipe], Path],
    tmp_path: Path,
) -> None:
    first, second = chain_srpms
    stopped = tmp_path / "stopped"
    ended = mock.mock("--chain", "--localrepo", stopped, failing_srpm, plain_srpm).expect(4)
    results = stopped / "results" / mock.config.chroot()
    assert "Stopping the --chain build because --continue isn't specified" in ended.stderr
    assert "toy-failing-1-1/fail" in tree(results)
    assert "about to fail" in (results / "toy-failing-1-1/build.log").read_text()
    assert not (results / "toy-plain-1-1").exists()

    on = tmp_path / "on"
    mock.mock("--chain", "-c", "--localrepo", on, failing_srpm, plain_srpm).expect(4)
    assert "toy-plain-1-1/success" in tree(on / "results" / mock.config.chroot())

    # In the wrong order: --recurse tries what failed once more.
    again = tmp_path / "again"
    ended = mock.mock("--chain", "--recurse", "--localrepo", again, second, first).expect()
    assert "Trying to rebuild 1 failed pkgs, because --recurse is set." in ended.stderr
    assert "toy-chain-b-1-1/success" in tree(again / "results" / mock.config.chroot())


@pytest.mark.slow
def test_packages_of_ones_own_in_the_local_repository(
    mock: User, plain_srpm: Path, lab_srpm: Callable[[Recipe], Path], tmp_path: Path
) -> None:
    """mock uses whatever lies in the local repository, whoever put it there."""
    mock.mock("--resultdir", tmp_path / "made", plain_srpm).expect()
    repository = tmp_path / "repository"
    own = repository / "results" / mock.config.chroot() / "own"
    own.mkdir(parents=True)
    (package,) = (tmp_path / "made").glob("*.noarch.rpm")
    package.rename(own / package.name)
    needing = toy("toy-needing", preamble="BuildArch: noarch\nBuildRequires: toy-plain\n")
    mock.mock("--chain", "--localrepo", repository, lab_srpm(needing)).expect()
    assert (own / package.name).exists()
