# SPDX-License-Identifier: GPL-2.0-or-later
"""RPM databases: where they are found, and how header blobs come out of them."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import struct
import zlib
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
    assert headers.find_databases(str(tmp_path)) == [headers.RpmDatabase("/var/lib/rpm", "sqlite")]
    assert list(headers.iter_headers(str(tmp_path))) == [b"x"]


def test_another_backend_is_named_and_has_no_headers(tmp_path: Path) -> None:
    (tmp_path / "var/lib/rpm").mkdir(parents=True)
    (tmp_path / "var/lib/rpm/Packages").write_bytes(b"")
    assert facts(tmp_path) == ([["/var/lib/rpm", "bdb", None]], 0)


def test_no_database(tmp_path: Path) -> None:
    assert headers.find_databases(str(tmp_path)) == []
    assert list(headers.iter_headers(str(tmp_path))) == []
    assert facts(tmp_path) == ([], 0)


def test_each_of_two_databases_is_told_and_a_link_is_none(tmp_path: Path) -> None:
    """An empty one in the first place hides nothing of the second."""
    _fill(_database(tmp_path), [])
    _fill(_database(tmp_path, "var/lib/rpm"), [b"x"])
    two = [["/usr/lib/sysimage/rpm", "sqlite", None], ["/var/lib/rpm", "sqlite", None]]
    assert facts(tmp_path) == (two, 1)
    shutil.rmtree(tmp_path / "usr/lib/sysimage/rpm")
    (tmp_path / "usr/lib/sysimage/rpm").symlink_to("/var/lib/rpm")
    assert facts(tmp_path) == (two[:1], 1)


def facts(root: Path) -> tuple[list[list[str | None]], int]:
    """The databases, and how many headers they have."""
    found = joined(evidence.measure("n", [], [], 1, str(root)))
    return found["rpmdb"], len(found["headers"])


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE Packages RENAME TO p; CREATE VIEW Packages AS SELECT hnum, blob FROM p;",
        "INSERT INTO Packages (blob) VALUES ('text');",
        "INSERT INTO Packages (blob) VALUES ('');",
        "DROP TABLE Packages;",
    ],
)
def test_a_hostile_database_is_unreadable(tmp_path: Path, sql: str) -> None:
    _fill(_database(tmp_path), [b"good"], sql)
    with pytest.raises(headers.DatabaseUnreadable):
        list(headers.iter_headers(str(tmp_path)))
    ((place, backend, problem),), count = facts(tmp_path)
    assert (place, backend, count) == ("/usr/lib/sysimage/rpm", "sqlite", 0)
    assert str(problem).startswith("EIO: ")


def test_bytes_that_are_no_database(tmp_path: Path) -> None:
    _database(tmp_path).write_bytes(b"x" * 8192)
    with pytest.raises(headers.DatabaseUnreadable):
        list(headers.iter_headers(str(tmp_path)))


def write_ndb(path: Path, blobs: list[bytes]) -> None:
    """What rpm on SUSE writes (rpm's lib/backend/ndb/rpmpkg.c); Debian's has no such backend."""
    slots, data = b"", b""
    for number, blob in enumerate(blobs, 1):
        body = struct.pack("<4sIII", b"BlbS", number, 1, len(blob)) + blob
        body += bytes(-(len(body) + 12) % 16)
        place = (4096 + len(data)) // 16
        data += body + struct.pack("<II4s", zlib.adler32(body), len(blob), b"BlbE")
        slots += struct.pack("<4sIII", b"Slot", number, place, (len(body) + 12) // 16)
    while len(slots) < 4096 - 32:
        slots += struct.pack("<4sIII", b"Slot", 0, 0, 0)
    head = struct.pack("<4sIIII12x", b"RpmP", 0, 1, 1, len(blobs) + 1)
    path.write_bytes(head + slots + data)


@pytest.fixture
def ndb(tmp_path: Path) -> Path:
    path = _database(tmp_path, "var/lib/rpm").with_name("Packages.db")
    write_ndb(path, [b"one" * 20, b"two" * 5000])
    return path


def test_an_ndb_is_read_as_sqlite_is(ndb: Path, tmp_path: Path) -> None:
    assert list(headers.iter_headers(str(tmp_path))) == [b"one" * 20, b"two" * 5000]
    assert facts(tmp_path) == ([["/var/lib/rpm", "ndb", None]], 2)
    write_ndb(ndb, [])
    assert facts(tmp_path) == ([["/var/lib/rpm", "ndb", None]], 0)


def test_a_damaged_ndb_is_unreadable(ndb: Path, tmp_path: Path) -> None:
    good = ndb.read_bytes()
    before = list(headers.iter_headers(str(tmp_path)))
    slot, begin = 32, good.index(b"BlbS")
    end = good.index(b"BlbE", begin)
    places = {
        "magic": 0, "version": 4, "pages": 12, "a slot's magic": slot, "its blob": slot + 8,
        "its room": slot + 12, "the blob's magic": begin, "its owner": begin + 4,
        "its length": begin + 12, "the header": begin + 40, "the checksum": end - 8,
        "the length again": end - 4, "the end": end,
    }  # fmt: skip
    for what, at in places.items():
        ndb.write_bytes(good[:at] + bytes((good[at] ^ 0x41,)) + good[at + 1 :])
        with pytest.raises(headers.DatabaseUnreadable):
            pytest.fail(f"{what}: {list(headers.iter_headers(str(tmp_path)))!r:.80}")
    for cut in (0, 100, 4095, 4096, begin + 20, len(good) - 16):
        ndb.write_bytes(good[:cut])
        with pytest.raises(headers.DatabaseUnreadable):
            pytest.fail(f"cut at {cut}: {list(headers.iter_headers(str(tmp_path)))!r:.80}")
    twice = good[slot : slot + 4] + (9).to_bytes(4, "little") + good[slot + 8 : slot + 16]
    ndb.write_bytes(good[: slot + 160] + twice + good[slot + 176 :])
    with pytest.raises(headers.DatabaseUnreadable, match="another's place"):
        list(headers.iter_headers(str(tmp_path)))
    ndb.write_bytes(good)
    assert list(headers.iter_headers(str(tmp_path))) == before
    write_ndb(ndb, [b"one", b""])
    with pytest.raises(headers.DatabaseUnreadable, match="package 2 has no header"):
        list(headers.iter_headers(str(tmp_path)))
