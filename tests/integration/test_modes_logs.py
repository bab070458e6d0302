# SPDX-License-Identifier: GPL-2.0-or-later
"""What a build leaves and when: logs that grow in place, the order of events, few requests."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mock_cloud.process import run
from tests.integration.conftest import User
from tests.lab.copies import change_a_byte
from tests.lab.http import FileServer
from tests.lab.srpm import Recipe, toy

pytestmark = pytest.mark.lab

VICTIM = "usr/bin/env"
_LOGS = ("root.log", "build.log", "state.log")
# mock's logging.ini: these are what people and scripts look for in the logs.
_STATE_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} - (Start|Finish): .+")
# As in mock the list of installed packages is one record of many lines.
_ROOT_LINE = re.compile(r"(DEBUG|INFO|WARNING|ERROR) \w+\.py:\d+:  .*|[\w.+~^:-]+")


def test_logs_grow_in_place_while_it_builds(
    mock: User, lab_srpm: Callable[[Recipe], Path], tmp_path: Path
) -> None:
    ticks = "for tick in 1 2 3 4 5; do echo tick $tick; sleep 0.6; done"
    source = lab_srpm(toy("toy-ticking", preamble="BuildArch: noarch\n", build=ticks))
    result = tmp_path / "result"
    process = mock.start("--resultdir", result, source, stdout=subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL)  # fmt: skip
    seen: dict[str, set[int]] = {name: set() for name in _LOGS}
    sizes: list[int] = []
    deadline = time.monotonic() + 90
    while process.poll() is None:
        assert time.monotonic() < deadline
        for name in _LOGS:
            if (result / name).exists():
                facts = (result / name).stat()
                seen[name].add(facts.st_ino)
                if name == "build.log" and facts.st_size not in sizes[-1:]:
                    sizes.append(facts.st_size)
        time.sleep(0.05)
    assert process.wait() == 0
    for name in _LOGS:
        assert seen[name] == {(result / name).stat().st_ino}, name
    assert sizes == sorted(sizes)
    assert len(sizes) >= 5, "it did not come while the build ran"

    state = (result / "state.log").read_text().splitlines()
    assert all(_STATE_LINE.fullmatch(line) for line in state if "Mock Version" not in line)
    assert sum("Start: rpmbuild toy-ticking" in line for line in state) == 1
    root = (result / "root.log").read_text().splitlines()
    assert all(_ROOT_LINE.fullmatch(line) for line in root if line)
    build = (result / "build.log").read_text()
    assert "Executing command: ['bash', '--login', '-c', '/usr/bin/rpmbuild -bb" in build
    assert build.count("tick ") >= 5
    assert "Child return code was: 0" in build
    assert not list(result.glob(".*")), "the staging directory is still there"


def test_nothing_is_sent_before_the_verdict(mock: User, plain_srpm: Path, tmp_path: Path) -> None:
    result = tmp_path / "result"
    ended = mock.mock("--resultdir", result, plain_srpm).expect()
    assert re.search(r"node trusted \(tier 1\): [\d,]+ files, \d+ packages", ended.stderr)
    verdict = (result / "remote_attestation.log").read_text()
    assert "trusted" in verdict.splitlines()[0]
    events = [line.split()[2] for line in (result / "remote_order.log").read_text().splitlines()]
    last = [n for n, event in enumerate(events) if event == "measured"][-1]
    this = events[last:]
    kinds = list(dict.fromkeys(this))
    assert kinds[:2] == ["measured", "trusted"]
    assert kinds.index("trusted") < kinds.index("job-start")
    assert "blob" not in events[: events.index("trusted")]
    assert "job-start" not in events[: events.index("trusted")]


def test_a_refused_node_gets_nothing(lone_mock: User, plain_srpm: Path, tmp_path: Path) -> None:
    """The image of the remote differs from its manifest in one byte of one program."""
    remote = lone_mock.config.remote_file
    text = remote.read_text()
    image = re.search(r'image = "(.*)"', text)
    assert image is not None
    try:
        change_a_byte(Path(image[1]), tmp_path / "image", VICTIM)
        remote.write_text(text.replace(image[1], str(tmp_path / "image")))
        result = tmp_path / "result"
        ended = lone_mock.mock("--resultdir", result, plain_srpm).expect(77)
        assert f"refused: file.digest: /{VICTIM}" in ended.stderr
        assert "nothing was sent" in ended.stderr
        assert {path.name for path in result.iterdir()} <= {
            "remote_attestation.log",
            "remote_order.log",
        }
        assert f"/{VICTIM}" in (result / "remote_attestation.log").read_text()
        order = result / "remote_order.log"
        if order.exists():
            events = {line.split()[2] for line in order.read_text().splitlines()}
            assert "measured" in events
            assert not events & {"trusted", "blob", "job-start"}
        assert lone_mock.nodes() == [], "a refused node is not kept"
    finally:
        shutil.rmtree(tmp_path / "image", ignore_errors=True)


@pytest.mark.slow
def test_only_what_changed_is_fetched(
    mock: User, lab_repo: FileServer, lab_srpm: Callable[[Recipe], Path], tmp_path: Path
) -> None:
    recipe = toy("toy-served", preamble="BuildArch: noarch\n")
    newer = Recipe(recipe.name, recipe.spec.replace("Release: 1", "Release: 2"))
    needing = lab_srpm(
        toy("toy-wanting", preamble="BuildArch: noarch\nBuildRequires: toy-served\n")
    )
    made = tmp_path / "made"
    for source in (recipe, newer):
        mock.mock("--resultdir", made, lab_srpm(source)).expect()
    old, new = sorted(made.glob("*.noarch.rpm"))
    repository = tmp_path / "repository"
    publish(repository, old)
    with FileServer({"/repo": repository}) as server:
        words = ("--addrepo", f"{server.url}/repo", needing, "--resultdir")
        mock.mock(*words, tmp_path / "first").expect()
        for place in (server, lab_repo):
            place.forget_accesses()
        mock.mock(*words, tmp_path / "second").expect()
        asked = {access.path for place in (server, lab_repo) for access in place.accesses()}
        assert asked == {"/dist/1/repodata/repomd.xml", "/repo/repodata/repomd.xml"}
        assert "Installing" not in (tmp_path / "second/root.log").read_text()
        # Another release under the same URL.
        publish(repository, new)
        mock.mock(*words, tmp_path / "third").expect()
    for name, release in (("first", 1), ("second", 1), ("third", 2)):
        installed = (tmp_path / name / "installed_pkgs.log").read_text()
        assert f"toy-served-1-{release}.lab1.noarch" in installed


def publish(directory: Path, *packages: Path) -> None:
    """Make `directory` a repository of `packages` and nothing else."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    for package in packages:
        shutil.copy(package, directory)
    run(["createrepo_c", "-q", str(directory)], timeout_s=600)
