# SPDX-License-Identifier: GPL-2.0-or-later
"""Which repository dnf has packages from: what it noted, and what a scriptlet may have written."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from mock_cloud.agent.engine.origins import find_repositories, plain_nevra

HISTORY = """
CREATE TABLE repo (id INTEGER PRIMARY KEY, repoid TEXT NOT NULL);
CREATE TABLE rpm (item_id INTEGER PRIMARY KEY, name TEXT, epoch INTEGER, version TEXT, release TEXT,
 arch TEXT);
CREATE TABLE trans_item (id INTEGER PRIMARY KEY, trans_id INTEGER, item_id INTEGER,
 repo_id INTEGER);
INSERT INTO repo VALUES (1, 'fedora'), (2, 'updates');
INSERT INTO rpm VALUES (1, 'bash', 0, '5.2', '1', 'x86_64'), (2, 'file', 1, '5', '2', 'x86_64');
INSERT INTO trans_item VALUES (1, 1, 1, 1), (2, 1, 2, 1), (3, 2, 2, 2);
"""


ENDLESS = """
DROP TABLE repo;
CREATE VIEW repo AS WITH RECURSIVE n(id, repoid) AS
 (VALUES (1, 'x') UNION ALL SELECT id + 1, repoid FROM n) SELECT * FROM n;
"""
ODD_ID = "UPDATE repo SET repoid = x'00ff' WHERE id = 1;"


def history(root: Path, script: str) -> None:
    path = root / "var/lib/dnf/history.sqlite"
    path.parent.mkdir(parents=True)
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript(script)


def nevras(root: Path, text: str) -> None:
    path = root / "usr/lib/sysimage/libdnf5/nevras.toml"
    path.parent.mkdir(parents=True)
    path.write_text(text)


def test_dnf4s_history_the_last_transaction_counts(tmp_path: Path) -> None:
    history(tmp_path, HISTORY)
    assert find_repositories(str(tmp_path)) == {
        "bash-5.2-1.x86_64": "fedora", "file-1:5-2.x86_64": "updates"
    }  # fmt: skip


def test_dnf5s_nevras(tmp_path: Path) -> None:
    pytest.importorskip("tomllib")
    nevras(tmp_path, 'version = "1.0"\n[nevras]\n"bash-0:5.2-1.x86_64" = {from_repo = "fedora"}\n')
    assert find_repositories(str(tmp_path)) == {"bash-5.2-1.x86_64": "fedora"}


@pytest.mark.parametrize(
    "script",
    [
        "CREATE TABLE repo (id INTEGER)",
        HISTORY + ENDLESS,
    ],
)
def test_a_hostile_history_says_nothing_and_takes_no_time(tmp_path: Path, script: str) -> None:
    history(tmp_path, script)
    assert find_repositories(str(tmp_path)) == {}


def test_ids_that_are_none_are_left_out(tmp_path: Path) -> None:
    history(tmp_path, HISTORY + ODD_ID)
    assert find_repositories(str(tmp_path)) == {"file-1:5-2.x86_64": "updates"}


@pytest.mark.parametrize("text", ["nevras = 3", "[nevras]\n'a' = 1\n'b' = {from_repo = 2}", "]["])
def test_hostile_nevras_say_nothing(tmp_path: Path, text: str) -> None:
    nevras(tmp_path, text)
    assert find_repositories(str(tmp_path)) == {}


def test_a_link_out_of_the_chroot_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    history(tmp_path / "outside", HISTORY)
    root = tmp_path / "root"
    (root / "var/lib").mkdir(parents=True)
    (root / "var/lib/dnf").symlink_to(tmp_path / "outside/var/lib/dnf")
    assert find_repositories(str(root)) == {}
    assert find_repositories(str(tmp_path / "nothing")) == {}


def test_an_epoch_of_0_is_none() -> None:
    assert plain_nevra("a-0:b-0:1-2.x86_64") == "a-0:b-1-2.x86_64"
    assert plain_nevra("a-10:1-2.x86_64") == "a-10:1-2.x86_64"
