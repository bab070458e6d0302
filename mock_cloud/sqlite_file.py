# SPDX-License-Identifier: GPL-2.0-or-later
"""SQLite files of the state directory: private, of one version, opened anew for each use."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

_BUSY_TIMEOUT_S: Final = 30.0
"""By luck: of fifty commands that begin at once on a busy machine, one waits long for its turn."""


class OtherVersion(Exception):
    """The file is not one that this version of mock-cloud made; the text says which it is."""


def make_private(path: Path, version: int, *tables: str) -> None:
    """Make the file with these tables if there is none. OSError, sqlite3.Error.

    It gets its name when it is whole: SQLite has no wait for a second process that turns the same
    file to WAL, and one that was killed leaves no half of a file. One that somebody emptied is
    filled where it is. The -wal and -shm files get the main file's permissions.
    """
    if path.exists():
        if path.stat().st_size == 0:
            _fill(path, version, tables)
        return
    descriptor, name = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
    os.close(descriptor)
    new = Path(name)
    try:
        with _connected(new) as db:
            db.execute("PRAGMA journal_mode = WAL")
        _fill(new, version, tables)
        with suppress(FileExistsError):  # another process was faster
            path.hardlink_to(new)
    finally:
        new.unlink()


def _fill(path: Path, version: int, tables: Sequence[str]) -> None:
    with _connected(path) as db, transaction(db):
        if not db.execute("PRAGMA user_version").fetchone()[0]:
            for table in tables:
                db.execute(table)
            db.execute(f"PRAGMA user_version = {version}")


@contextmanager
def opened(path: Path, version: int) -> Iterator[sqlite3.Connection]:
    """A connection to what `make_private` made. sqlite3.Error, OtherVersion."""
    with _connected(path) as db:
        found = db.execute("PRAGMA user_version").fetchone()[0]
        if found != version:
            raise OtherVersion(f"has schema {found}, not {version}")
        yield db


def _connected(path: Path) -> closing[sqlite3.Connection]:
    uri = f"file:{quote(str(path))}?mode=rw"  # no call makes the file by accident
    return closing(sqlite3.connect(uri, timeout=_BUSY_TIMEOUT_S, isolation_level=None, uri=True))


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Exclusive use of the file; committed at the end, undone by an exception, which closes it."""
    db.execute("BEGIN IMMEDIATE")
    yield
    db.execute("COMMIT")
