# SPDX-License-Identifier: GPL-2.0-or-later
"""A tree of which files are known: what changed is found, however the change is hidden."""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mock_cloud.agent.measure import files
from mock_cloud.agent.measure.tree import digest_changes, digest_tree

_REALTIME_COARSE = 5  # linux/time.h


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two directories with files of the same names and sizes; none counts as changed just now."""
    monkeypatch.setattr(files, "_SETTLED_NS", -(1 << 60))
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "small").write_text(name)
        (tmp_path / name / "big").write_bytes(name.encode() * (files.BIG_BYTES // 2))
        (tmp_path / name / "link").symlink_to("small")
        os.link(tmp_path / name / "small", tmp_path / name / "same")
    _wait_for_another_tick(tmp_path)
    return tmp_path


def _wait_for_another_tick(tree: Path) -> None:
    """The kernel's times of files are those of its last tick."""
    last = max(path.lstat().st_ctime_ns for path in tree.rglob("*"))
    while time.clock_gettime_ns(_REALTIME_COARSE) <= last:
        pass


def test_a_tree_that_did_not_change_has_the_same_digest_unread(tree: Path) -> None:
    measured, seen = digest_changes(str(tree), {})
    assert measured == digest_tree(str(tree))
    assert len(seen) == 4, "a file with two names is one"
    assert digest_changes(str(tree), seen) == (measured, seen)
    false = {key: facts.replace('"f",', '"f",1') for key, facts in seen.items()}
    assert digest_changes(str(tree), false)[0] != measured, "known files are not read"


def _rewrite(tree: Path) -> None:
    (tree / "one/small").write_text("ONE")


def _swap_directories(tree: Path) -> None:
    (tree / "one").rename(tree / "other")
    (tree / "two").rename(tree / "one")
    (tree / "other").rename(tree / "two")


def _swap_files(tree: Path) -> None:
    (tree / "one/small").rename(tree / "small")
    (tree / "two/small").rename(tree / "one/small")
    (tree / "small").rename(tree / "two/small")


def _write_through_memory(tree: Path) -> None:
    with (tree / "one/big").open("r+b") as stream, mmap.mmap(stream.fileno(), 0) as view:
        view[0] ^= 1


def _write_through_another_name(tree: Path) -> None:
    (tree / "one/same").write_text("ONE")


def _chmod(tree: Path) -> None:
    (tree / "one/small").chmod(0o4755)


def _replace(tree: Path) -> None:
    (tree / "one/small").unlink()
    (tree / "one/small").write_text("ONE")


def _become_a_link(tree: Path) -> None:
    (tree / "one/small").unlink()
    (tree / "one/small").symlink_to("../two/small")


def _turn_a_link(tree: Path) -> None:
    (tree / "one/link").unlink()
    (tree / "one/link").symlink_to("big")


def _remove(tree: Path) -> None:
    (tree / "one/big").unlink()


def _add(tree: Path) -> None:
    (tree / "one/more").touch()


@pytest.mark.parametrize(
    "change",
    [_rewrite, _swap_directories, _swap_files, _write_through_memory, _chmod, _replace,
     _write_through_another_name, _become_a_link, _turn_a_link, _remove, _add],
)  # fmt: skip
def test_a_change_is_found_though_its_times_are_set_back(
    change: Callable[[Path], None], tree: Path
) -> None:
    before = {path: path.lstat() for path in tree.rglob("*")}
    measured, seen = digest_changes(str(tree), {})
    change(tree)
    for path, facts in before.items():
        if path.exists():
            os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns), follow_symlinks=False)
    found, now = digest_changes(str(tree), seen)
    assert found == digest_tree(str(tree)) != measured
    assert digest_changes(str(tree), now)[0] == found


def test_what_changed_just_now_is_read_the_next_time_too(tmp_path: Path) -> None:
    (tmp_path / "new").write_text("x")
    assert digest_changes(str(tmp_path), {})[1] == {}
