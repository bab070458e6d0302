# SPDX-License-Identifier: GPL-2.0-or-later
"""SQLite files of the state directory: private, of one version, opened anew for each use."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

_BUSY_TIMEOUT_S: Final = 30.0
"""By luck: of fifty commands that begin at once on a busy machine, one waits long for its turn."""


class OtherVersion(Exception):
    """The file is not one that this version of mock-cloud made; the text says which it is."""


def make_private(path: Path) -> None:
    """Make an empty file if there is none. OSError.

    SQLite gives the -wal and -shm files the permissions of the main file.
    """
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))


@contextmanager
def opened(path: Path, version: int, *tables: str) -> Iterator[sqlite3.Connection]:
    """A connection; an empty file gets `tables`, all or none. sqlite3.Error, OtherVersion."""
    # mode=rw: only `make_private` makes the file, and no later call does by accident.
    uri = f"file:{quote(str(path))}?mode=rw"
    with closing(
        sqlite3.connect(uri, timeout=_BUSY_TIMEOUT_S, isolation_level=None, uri=True)
    ) as db:
        if _version(db) != version:
            db.execute("PRAGMA journal_mode = WAL")
            with transaction(db):
                found = _version(db)
                if found == 0 and not db.execute("SELECT 1 FROM sqlite_schema").fetchone():
                    for table in tables:
                        db.execute(table)
                    db.execute(f"PRAGMA user_version = {version}")
                elif found != version:
                    raise OtherVersion(f"has schema {found}, not {version}")
        yield db


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Exclusive use of the file; committed at the end, undone by an exception, which closes it."""
    db.execute("BEGIN IMMEDIATE")
    yield
    db.execute("COMMIT")


def _version(db: sqlite3.Connection) -> int:
    found: int = db.execute("PRAGMA user_version").fetchone()[0]
    return found
