# SPDX-License-Identifier: GPL-2.0-or-later
"""The header blobs of an RPM database, as they stand there.

The database is only transport: the controller verifies each header's signature itself. So
nothing is interpreted here, and the node's own rpm is not used. rpm's sqlite backend keeps
one row a package in the table `Packages` (lib/backend/sqlite.c of rpm: hnum, blob).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from mock_cloud.agent.measure import opening

DATABASE_DIRS: Final = ("/usr/lib/sysimage/rpm", "/var/lib/rpm")
_BACKENDS: Final = (("sqlite", "rpmdb.sqlite"), ("ndb", "Packages.db"), ("bdb", "Packages"))
_DATABASE_MAX: Final = 4 << 30
_HEADER_MAX: Final = 256 << 20  # HEADER_DATA_MAX of rpm's lib/header.c
_BLOCK: Final = 1 << 20
_SCRATCH_DIRS: Final = ("/var/lib/mock-cloud", "/run", "/tmp")  # noqa: S108


class DatabaseUnreadable(OSError):
    """The RPM database is there but cannot be read whole."""


@dataclass(frozen=True, slots=True)
class Database:
    """Where the RPM database is (its directory, as the node names it) and its backend."""

    path: str
    backend: str


def find_database(root: str = "/") -> Database | None:
    """The RPM database of the system at `root`: the first directory that holds one."""
    for path in DATABASE_DIRS:
        for backend, name in _BACKENDS:
            try:
                os.close(opening.open_in_root(root, f"{path}/{name}", os.O_RDONLY))
            except OSError:
                continue
            return Database(path, backend)
    return None


def iter_headers(root: str = "/") -> Iterator[bytes]:
    """Each package's header blob; nothing without a database or with another backend.

    The database and its write-ahead log are copied to a private directory first, so that
    the node's files are not touched. Raises `DatabaseUnreadable`.
    """
    database = find_database(root)
    if database is None or database.backend != "sqlite":
        return
    with _private_directory() as scratch:
        copy = os.path.join(scratch, "rpmdb.sqlite")
        _copy(root, f"{database.path}/rpmdb.sqlite", copy)
        with contextlib.suppress(FileNotFoundError):
            _copy(root, f"{database.path}/rpmdb.sqlite-wal", copy + "-wal")
        try:
            yield from _rows(copy)
        except sqlite3.Error as error:
            raise DatabaseUnreadable(errno.EIO, f"{database.path}: {error}") from error


def read_headers(root: str = "/") -> dict[str, bytes]:
    """All header blobs by their sha256 in hex, in the database's order."""
    return {hashlib.sha256(blob).hexdigest(): blob for blob in iter_headers(root)}


def _rows(path: str) -> Iterator[bytes]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        # A hostile schema must not run SQL functions or read outside its cells.
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        kind = connection.execute("SELECT type FROM sqlite_master WHERE name = 'Packages'")
        if kind.fetchone() != ("table",):
            raise DatabaseUnreadable(errno.EIO, "the database has no table Packages")
        for (blob,) in connection.execute("SELECT blob FROM Packages ORDER BY hnum"):
            if not isinstance(blob, bytes) or len(blob) > _HEADER_MAX:
                raise DatabaseUnreadable(errno.EIO, "a row of Packages is not a header")
            yield blob


@contextlib.contextmanager
def _private_directory() -> Iterator[str]:
    parent = next(path for path in _SCRATCH_DIRS if os.access(path, os.W_OK))
    path = os.path.join(parent, f".rpmdb-{os.getpid()}-{os.urandom(8).hex()}")
    os.mkdir(path, 0o700)
    try:
        yield path
    finally:
        for name in os.listdir(path):
            os.unlink(os.path.join(path, name))
        os.rmdir(path)


def _copy(root: str, source: str, target: str) -> None:
    fd = opening.open_in_root(root, source, os.O_RDONLY | os.O_NONBLOCK)
    try:
        before = os.fstat(fd)
        if before.st_size > _DATABASE_MAX:
            raise DatabaseUnreadable(errno.EFBIG, f"{source} is too large")
        with open(target, "xb") as copy:
            while block := os.read(fd, _BLOCK):
                copy.write(block)
                if copy.tell() > _DATABASE_MAX:
                    raise DatabaseUnreadable(errno.EFBIG, f"{source} is too large")
        after = os.fstat(fd)
    finally:
        os.close(fd)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise DatabaseUnreadable(errno.EAGAIN, f"{source} changed while it was read")
