# SPDX-License-Identifier: GPL-2.0-or-later
"""What is in builddir/build goes along, whatever a build left there, or nothing of it does."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mock_cloud.agent.engine.builddir import pack_builddir
from mock_cloud.agent.engine.context import Job
from mock_cloud.agent.engine.logs import Logs
from mock_cloud.wire.decode import Malformed, to_json
from mock_cloud.wire.job_request import (
    BUILDDIR_ARCHIVE,
    BuilddirOrder,
    JobRequest,
    MockRun,
    parse_request,
)
from mock_cloud.wire.terminal_log import TerminalWriter
from mock_cloud.wire.tree_archive import DEPTH_MAX
from tests.tree_archives import listing

BUILD = "root/builddir/build"
Pack = Callable[..., list[str]]


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    """What the archive has, of a chroot in `tmp_path`/root; nothing where there is none."""
    if os.geteuid() != 0:
        pytest.skip("needs root to work in a chroot")
    (tmp_path / BUILD).mkdir(parents=True)
    (tmp_path / "results").mkdir()

    def act(bytes_max: int = 1 << 20, files_max: int = 10_000, beside: str = "") -> list[str]:
        order = BuilddirOrder("/builddir/build", bytes_max, files_max)
        run = MockRun("r", "r", [], "{}", kit="kit")
        request = JobRequest("rebuild", mock=run, builddir=order, beside=beside)
        with (tmp_path / "terminal").open("wb") as terminal:
            logs = Logs(TerminalWriter(terminal.fileno()), 1, show_output=False)
            job = Job(str(tmp_path), "1", str(tmp_path), request, logs)
            pack_builddir(job, str(tmp_path / "root"))
        made = tmp_path / "results" / BUILDDIR_ARCHIVE
        return list(listing(made)) if made.exists() else []

    return act


def test_files_directories_and_links_go_along(pack: Pack, tmp_path: Path) -> None:
    top = tmp_path / BUILD
    (top / "BUILD/toy-1").mkdir(parents=True)
    (top / "BUILD/toy-1/COPYING").write_text("MIT")
    (top / "BUILD/toy-1/passwd").symlink_to("/etc/passwd")
    (top / "a\nb").touch()
    os.mkfifo(top / "pipe")
    os.mknod(top / "null", 0o600 | 0o020000, os.makedev(1, 3))
    assert pack() == [
        "BUILD", "BUILD/toy-1", "BUILD/toy-1/COPYING", "BUILD/toy-1/passwd", "a\nb",
    ]  # fmt: skip
    assert pack(beside="other") == pack()  # the archive of before
    (tmp_path / "results" / BUILDDIR_ARCHIVE).unlink()
    assert pack(beside="other") == []


def test_nothing_is_packed_of_what_is_not_there(pack: Pack, tmp_path: Path) -> None:
    assert pack() == []
    (tmp_path / BUILD).rmdir()
    assert pack() == []
    (tmp_path / BUILD).symlink_to("/etc")
    assert pack() == []
    (tmp_path / BUILD).unlink()
    (tmp_path / BUILD).write_text("a file")
    assert pack() == []


def test_what_is_too_large_is_named_and_stays(pack: Pack, tmp_path: Path) -> None:
    with (tmp_path / BUILD / "sparse").open("wb") as stream:
        stream.truncate(1 << 40)
    assert pack() == []
    said = (tmp_path / "terminal").read_text()
    assert "builddir/build has more than 1 MiB: the copy of it is empty" in said
    (tmp_path / BUILD / "sparse").unlink()
    for number in range(4):
        (tmp_path / BUILD / str(number)).touch()
    assert pack(files_max=3) == []
    assert "more than 3 files" in (tmp_path / "terminal").read_text()
    assert pack(files_max=4) == ["0", "1", "2", "3"]


def test_a_directory_that_is_too_deep_harms_nothing(pack: Pack, tmp_path: Path) -> None:
    (tmp_path / BUILD / "a").touch()
    place = os.open(tmp_path / BUILD, os.O_RDONLY)
    for _ in range(DEPTH_MAX + 100):
        os.mkdir("d" * 200, dir_fd=place)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = below
    os.close(place)
    assert "a" in pack()


@pytest.mark.parametrize("path", ["builddir/build", "/", "/a//b", "/a/../b", "/a/.", "", "/a\0"])
def test_a_path_that_is_none_in_a_chroot_is_refused(path: str) -> None:
    run = MockRun("r", "r", [], "{}", kit="kit")
    request = JobRequest("rebuild", mock=run, builddir=BuilddirOrder(path, 1, 1))
    with pytest.raises(Malformed, match="directory of a chroot"):
        parse_request(to_json(request))
