# SPDX-License-Identifier: GPL-2.0-or-later
"""Files written whole or not at all, and hashed."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mock_cloud.wire.files import create_file, digest_of, replace_file


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "file"
    other = tmp_path / "other"
    other.write_text("mine")
    path.symlink_to(other)
    replace_file(path, b"one", 0o600)
    assert path.read_bytes() == b"one"
    assert path.lstat().st_mode & 0o7777 == 0o600
    assert other.read_text() == "mine"
    replace_file(str(path), b"two")
    assert path.read_bytes() == b"two"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["file", "other"]


def test_what_cannot_be_written_leaves_all_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.mkdir()
    (path / "kept").write_text("")
    with pytest.raises(OSError, match="irectory"):
        replace_file(path, b"one")
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
    with pytest.raises(FileNotFoundError):
        replace_file(tmp_path / "none/file", b"one")


def test_of_several_that_make_a_file_one_does(tmp_path: Path) -> None:
    path, words = tmp_path / "file", [f"{number}".encode() * 100 for number in range(8)]
    with ThreadPoolExecutor(len(words)) as pool:
        made = list(pool.map(lambda word: create_file(path, word), words))
    assert made.count(True) == 1
    assert path.read_bytes() == words[made.index(True)]
    assert path.stat().st_mode & 0o7777 == 0o600
    assert not create_file(path, b"later")
    assert path.read_bytes() == words[made.index(True)]
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_a_name_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    replace_file("file", b"one")
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1])
def test_all_that_is_left_is_hashed(tmp_path: Path, size: int) -> None:
    path, data = tmp_path / "file", os.urandom(size)
    path.write_bytes(b"head" + data)
    with path.open("rb", buffering=0) as stream:
        stream.seek(4)
        assert digest_of(stream) == (hashlib.sha256(data).hexdigest(), size)
