# SPDX-License-Identifier: GPL-2.0-or-later
"""RPM databases: where they are found, and how header blobs come out of them."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path

import pytest

from mock_cloud.agent.measure import evidence, headers
from tests.records import joined


def _database(root: Path, place: str = "usr/lib/sysimage/rpm") -> Path:
    path = root / place / "rpmdb.sqlite"
    path.parent.mkdir(parents=True)
    return path


def _fill(path: Path, blobs: list[bytes], sql: str = "") -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB NOT NULL)")
    connection.executemany("INSERT INTO Packages (blob) VALUES (?)", [(blob,) for blob in blobs])
    if sql:
        connection.executescript(sql)
    connection.commit()
    connection.close()


def test_blobs_come_out_as_they_stand(tmp_path: Path) -> None:
    path = _database(tmp_path)
    _fill(path, [b"one", b"two" * 50_000])
    before = sorted(entry.name for entry in path.parent.iterdir())
    assert list(headers.iter_headers(str(tmp_path))) == [b"one", b"two" * 50_000]
    assert headers.read_headers(str(tmp_path)) == {
        hashlib.sha256(blob).hexdigest(): blob for blob in (b"one", b"two" * 50_000)
    }
    assert sorted(entry.name for entry in path.parent.iterdir()) == before


def test_rows_that_are_only_in_the_write_ahead_log(tmp_path: Path) -> None:
    path = _database(tmp_path)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB NOT NULL)")
    connection.execute("INSERT INTO Packages (blob) VALUES (?)", (b"fresh",))
    connection.commit()
    assert path.with_name("rpmdb.sqlite-wal").stat().st_size > 0
    assert list(headers.iter_headers(str(tmp_path))) == [b"fresh"]
    connection.close()


def test_the_older_place_and_links_inside_the_root(tmp_path: Path) -> None:
    _fill(_database(tmp_path, "real/rpm"), [b"x"])
    (tmp_path / "var/lib").mkdir(parents=True)
    (tmp_path / "var/lib/rpm").symlink_to("/real/rpm")  # absolute: of the root's, not ours
    assert headers.find_database(str(tmp_path)) == headers.Database("/var/lib/rpm", "sqlite")
    assert list(headers.iter_headers(str(tmp_path))) == [b"x"]


@pytest.mark.parametrize(("name", "backend"), [("Packages.db", "ndb"), ("Packages", "bdb")])
def test_another_backend_is_named_and_has_no_headers(
    tmp_path: Path, name: str, backend: str
) -> None:
    (tmp_path / "var/lib/rpm").mkdir(parents=True)
    (tmp_path / "var/lib/rpm" / name).write_bytes(b"")
    found = joined(evidence.measure("n", [], [], 1, str(tmp_path)))
    assert found["rpmdb"] == {"path": "/var/lib/rpm", "backend": backend}
    assert found["headers"] == []


def test_no_database(tmp_path: Path) -> None:
    assert headers.find_database(str(tmp_path)) is None
    assert list(headers.iter_headers(str(tmp_path))) == []
    assert joined(evidence.measure("n", [], [], 1, str(tmp_path)))["rpmdb"] is None


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE Packages RENAME TO p; CREATE VIEW Packages AS SELECT hnum, blob FROM p;",
        "INSERT INTO Packages (blob) VALUES ('text');",
        "DROP TABLE Packages;",
    ],
)
def test_a_hostile_database_is_unreadable(tmp_path: Path, sql: str) -> None:
    _fill(_database(tmp_path), [b"good"], sql)
    with pytest.raises(headers.DatabaseUnreadable):
        list(headers.iter_headers(str(tmp_path)))
    found = joined(evidence.measure("n", [], [], 1, str(tmp_path)))
    assert found["headers"] == []
    assert ["/usr/lib/sysimage/rpm", "EIO"] in found["unreadable"]


def test_bytes_that_are_no_database(tmp_path: Path) -> None:
    _database(tmp_path).write_bytes(b"x" * 8192)
    with pytest.raises(headers.DatabaseUnreadable):
        list(headers.iter_headers(str(tmp_path)))
