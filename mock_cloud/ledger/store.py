# SPDX-License-Identifier: GPL-2.0-or-later
"""The ledger's file: SQLite, to which entries are appended and nothing else.

An entry is written in one transaction with what it follows. The last number and digest are in
a file of their own too, which is written after it: a ledger that ends before that was cut short.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from mock_cloud.errors import CloudError, ConfigError, InputError
from mock_cloud.ledger.entries import (
    FIRST,
    BrokenChain,
    EventKind,
    LedgerEntry,
    LedgerEvent,
    check_chain,
    parse_entry,
)
from mock_cloud.sqlite_file import OtherVersion, make_private, opened, transaction
from mock_cloud.wire.decode import Malformed
from mock_cloud.wire.files import replace_file

NAME: Final = "ledger.sqlite"
_HEAD: Final = "ledger.head"
_VERSION: Final = 1
_TABLES: Final = (
    # The body is what counts; kind is there to be found by, and checked where all is read.
    "CREATE TABLE entry (number INTEGER PRIMARY KEY, kind TEXT NOT NULL, body BLOB NOT NULL)",
    "CREATE INDEX by_kind ON entry (kind)",
    "CREATE TRIGGER no_change BEFORE UPDATE ON entry"
    " BEGIN SELECT RAISE(ABORT, 'entries are not changed'); END",
    "CREATE TRIGGER no_removal BEFORE DELETE ON entry"
    " BEGIN SELECT RAISE(ABORT, 'entries are not removed'); END",
)

Make = Callable[[Sequence[LedgerEntry]], Sequence[LedgerEvent]]


class Ledger:
    """The ledger of a state directory, made with its first entry. Every call opens it anew."""

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / NAME
        self._head = state_dir / _HEAD

    def append(self, *events: LedgerEvent) -> list[LedgerEntry]:
        """Write all of the events or none; what was written is on the disk.

        CloudError if it is not; BrokenChain where the ledger does not end as it did; InputError for
        an event that could not be read again.
        """
        return self._write(_last, lambda _last: events)

    def decide(self, make: Make) -> list[LedgerEntry]:
        """Write the events that `make` says of all entries so far; nobody writes in between."""
        return self._write(lambda db: list(_all(db)), make)

    def _write(
        self, read: Callable[[sqlite3.Connection], list[LedgerEntry]], make: Make
    ) -> list[LedgerEntry]:
        try:
            with self._explained():
                make_private(self.path, _VERSION, *_TABLES)
        except OSError as error:
            raise CloudError(f"the ledger {self.path} cannot be made: {error.strerror}") from error
        written = []
        with self._open() as db, transaction(db):
            entries = read(db)
            self._check_head(self._read_head(), entries)
            events = make(entries)
            number, previous = (entries[-1].number, entries[-1].sha256) if entries else (0, FIRST)
            for event in events:
                number += 1
                entry = LedgerEntry(number, previous, event)
                _check_readable(entry)
                row = (number, event.kind.value, entry.body)
                db.execute("INSERT INTO entry VALUES (?, ?, ?)", row)
                previous = entry.sha256
                written.append(entry)
        if written:
            self._note_head(written[-1])
        return written

    def read(self) -> list[LedgerEntry]:
        """All entries, in order, their chain checked. BrokenChain, ConfigError, CloudError."""
        head = self._read_head()  # first: it is never ahead of what is read then
        entries: list[LedgerEntry] = []
        if self.path.exists():
            with self._open() as db:
                entries = list(_all(db))
        self._check_head(head, entries)
        return entries

    def find(self, kinds: Iterable[EventKind]) -> list[LedgerEntry]:
        """Entries of these kinds, in order; of the others nothing is looked at. As `read`."""
        if not self.path.exists():
            return []
        names = [kind.value for kind in kinds]
        marks = ", ".join("?" * len(names))
        with self._open() as db:
            rows = db.execute(
                f"SELECT body FROM entry WHERE kind IN ({marks}) ORDER BY number",  # noqa: S608
                names,
            ).fetchall()
        return [_parse(body) for (body,) in rows]

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with self._explained(), opened(self.path, _VERSION) as db:
            yield db

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OtherVersion as error:
            raise ConfigError(
                f"the ledger {self.path} {error}", hint="another version of mock-cloud wrote it"
            ) from error
        except sqlite3.OperationalError as error:
            raise CloudError(
                f"the ledger {self.path} cannot be used: {error}",
                hint="check the directory's permissions and free space, then try again",
            ) from error
        except sqlite3.DatabaseError as error:
            raise ConfigError(f"the ledger {self.path} is damaged: {error}") from error

    def _read_head(self) -> tuple[int, str]:
        """The number and digest of the last entry that was noted; 0 for none."""
        try:
            head = json.loads(self._head.read_bytes())
            return int(head["number"]), str(head["sha256"])
        except FileNotFoundError:
            return 0, FIRST
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"{self._head} cannot be read: {error}") from error

    @staticmethod
    def _check_head(head: tuple[int, str], entries: Sequence[LedgerEntry]) -> None:
        """BrokenChain if there were more entries once, or another one in the last's place."""
        number, digest = head
        last = entries[-1].number if entries else 0
        if number > last:
            raise BrokenChain(f"the ledger ends with entry {last}, and once had {number}")
        for entry in entries:
            if entry.number == number and entry.sha256 != digest:
                raise BrokenChain(f"the ledger's entry {number} is not the one that was written")

    def _note_head(self, last: LedgerEntry) -> None:
        """Where it fails the entry stands all the same: the next one is noted."""
        data = json.dumps({"number": last.number, "sha256": last.sha256}).encode()
        with suppress(OSError, ConfigError):
            if self._read_head()[0] < last.number:
                replace_file(self._head, data, 0o600)


def _all(db: sqlite3.Connection) -> Iterator[LedgerEntry]:
    """All entries, their chain checked. BrokenChain."""
    rows = db.execute("SELECT kind, body FROM entry ORDER BY number").fetchall()
    entries = check_chain(body if isinstance(body, bytes) else b"" for _, body in rows)
    for entry, (kind, _) in zip(entries, rows, strict=True):
        if entry.event.kind.value != kind:
            raise BrokenChain(f"the ledger's entry {entry.number} is called {kind!a}")
        yield entry


def _check_readable(entry: LedgerEntry) -> None:
    """One entry that cannot be read would be the end of the ledger, and of building."""
    try:
        parse_entry(entry.body)
    except Malformed as error:
        raise InputError(f"an entry of the ledger was not written: {error}") from error


def _last(db: sqlite3.Connection) -> list[LedgerEntry]:
    """The last entry, if there is one. BrokenChain."""
    row = db.execute("SELECT body FROM entry ORDER BY number DESC LIMIT 1").fetchone()
    return [] if row is None else [_parse(row[0])]


def _parse(body: object) -> LedgerEntry:
    try:
        return parse_entry(body if isinstance(body, bytes) else b"")
    except Malformed as error:
        raise BrokenChain(f"an entry of the ledger cannot be read: {error}") from error


def export(entries: Sequence[LedgerEntry]) -> bytes:
    """The entries' bodies, one a line."""
    return b"".join(entry.body + b"\n" for entry in entries)


def read_export(data: bytes) -> list[LedgerEntry]:
    """The entries of an export, their chain checked. BrokenChain."""
    if data and not data.endswith(b"\n"):
        raise BrokenChain("the export was cut short")
    return list(check_chain(data.splitlines()))
