# SPDX-License-Identifier: GPL-2.0-or-later
"""What of a directory goes back after a job: all that is new or changed, and the way there."""

from __future__ import annotations

import os
from pathlib import Path

from mock_cloud.agent.engine.mock.gains import Gains
from mock_cloud.wire.tree_archive import DEPTH_MAX
from tests.tree_archives import listing


def test_new_and_changed_files_go_back(tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "sub/below").mkdir(parents=True)
    for name in ("same", "changed", "rewritten", "sub/same", "sub/below/mode", "gone"):
        (top / name).write_text(name)
    (top / "link").symlink_to("same")
    gains = Gains({"0": str(top), "1": str(tmp_path / "none")})
    path = tmp_path / "archive"
    assert gains.pack(str(path)) == [] and not path.exists()
    times = (top / "rewritten").stat()
    (top / "changed").write_text("CHANGED")
    (top / "rewritten").write_text("REWRITTEN")
    os.utime(top / "rewritten", ns=(times.st_atime_ns, times.st_mtime_ns))
    (top / "sub/below/mode").chmod(0o755)
    (top / "sub/new").mkdir()
    (top / "link").unlink()
    (top / "link").symlink_to("changed")
    (top / "gone").unlink()
    os.mkfifo(top / "sub/pipe")
    problems = gains.pack(str(path))
    assert [problem.path for problem in problems] == [str(top / "sub/pipe")]
    assert list(listing(path)) == [
        "0", "0/changed", "0/link", "0/rewritten", "0/sub", "0/sub/below", "0/sub/below/mode",
        "0/sub/new",
    ]  # fmt: skip


def test_a_directory_of_a_hostile_builds(tmp_path: Path) -> None:
    """Deeper than anything goes: what is too deep stays, the rest goes back."""
    top = tmp_path / "top"
    top.mkdir()
    gains = Gains({"0": str(top)})
    (top / "file").touch()
    place = os.open(top, os.O_RDONLY)
    for _ in range(DEPTH_MAX + 100):
        os.mkdir("d", dir_fd=place)
        below = os.open("d", os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = below
    os.close(place)
    path = tmp_path / "archive"
    (problem,) = gains.pack(str(path))
    assert "deep" in problem.why
    found = listing(path)
    assert "0/file" in found and len(found) == DEPTH_MAX + 1
