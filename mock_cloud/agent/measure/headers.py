# SPDX-License-Identifier: GPL-2.0-or-later
"""The header blobs of RPM databases, as they stand there.

A database is only transport: the controller verifies each header's signature itself. So
nothing is interpreted here, and the node's own rpm is not used. rpm's sqlite backend keeps
one row a package in the table `Packages` (lib/backend/sqlite.c of rpm: hnum, blob); `ndb` has
them in a file of its own kind. Berkeley DB (EL 8 and before) is named and not read.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import mmap
import os
import sqlite3
import struct
import zlib
from collections.abc import Iterator
from typing import Final

from mock_cloud.agent.measure import opening
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.layout import RPMDB_DIRS

BACKENDS: Final = {"sqlite": "rpmdb.sqlite", "ndb": "Packages.db", "bdb": "Packages"}
"""The file that a backend keeps packages in."""
_DATABASE_MAX: Final = 4 << 30
_BLOCK: Final = 1 << 20
_SCRATCH_DIRS: Final = ("/var/lib/mock-cloud", "/run", "/tmp")  # noqa: S108


class DatabaseUnreadable(OSError):
    """The RPM database is there but cannot be read whole."""


@dataclass(frozen=True, slots=True)
class RpmDatabase:
    """Where the RPM database is (its directory, as the node names it) and its backend."""

    path: str
    backend: str


def find_databases(root: str = "/") -> list[RpmDatabase]:
    """The RPM databases of the system at `root`: none is another file by another name."""
    found: dict[tuple[int, int], RpmDatabase] = {}
    for path in RPMDB_DIRS:
        for backend, name in BACKENDS.items():
            try:
                fd = opening.open_in_root(root, f"{path}/{name}", os.O_RDONLY | os.O_NONBLOCK)
            except OSError:
                continue
            status = os.fstat(fd)
            os.close(fd)
            found.setdefault((status.st_dev, status.st_ino), RpmDatabase(path, backend))
    return list(found.values())


def iter_headers(root: str = "/") -> Iterator[bytes]:
    """Each package's header blob in the databases at `root` that can be read, see `read_database`.

    Raises `DatabaseUnreadable`.
    """
    for database in find_databases(root):
        yield from read_database(root, database)


def read_database(root: str, database: RpmDatabase) -> Iterator[bytes]:
    """Each header blob in `database`; nothing of a backend that is not read.

    The database and its write-ahead log are copied to a private directory first, so that
    the node's files are not touched. Raises `DatabaseUnreadable`, OSError.
    """
    read = _READERS.get(database.backend)
    if read is None:
        return
    with copied(root, f"{database.path}/{BACKENDS[database.backend]}", _DATABASE_MAX) as copy:
        try:
            yield from read(copy)
        except (sqlite3.Error, MalformedNdb) as error:
            raise DatabaseUnreadable(errno.EIO, f"{database.path}: {error}") from error


@contextlib.contextmanager
def copied(root: str, source: str, size_max: int) -> Iterator[str]:
    """A private copy of the file `source` of the system at `root`, and of its write-ahead log."""
    with _private_directory() as scratch:
        copy = os.path.join(scratch, "database")
        _copy(root, source, copy, size_max)
        with contextlib.suppress(FileNotFoundError):
            _copy(root, f"{source}-wal", f"{copy}-wal", size_max)
        yield copy


def read_headers(root: str = "/") -> dict[str, bytes]:
    """All header blobs by their sha256 in hex, in the database's order."""
    return {hashlib.sha256(blob).hexdigest(): blob for blob in iter_headers(root)}


# rpm's ndb: the file Packages.db that SUSE's distributions keep package headers in.
# Layout (rpm's lib/backend/ndb/rpmpkg.c; all numbers little-endian, 32 bits): a header of 32 bytes
# with magic, version, generation and how many pages of 4096 bytes the slots fill; slots of 16
# bytes with magic, package number, where its blob is and how much room it has, both in blocks of
# 16 bytes. A blob is a head of 16 bytes (magic, package number, generation, length), the header,
# zeros, and a tail of 12 (an adler32 of all before it, the length again, magic).
_HEADER_MAX: Final = 256 << 20  # HEADER_DATA_MAX of rpm's lib/header.c

_MAGIC, _SLOT, _BEGIN, _END = (int.from_bytes(one, "little") for one in (
    b"RpmP", b"Slot", b"BlbS", b"BlbE",
))  # fmt: skip
_FILE_HEAD: Final = struct.Struct("<IIII")
_FOUR: Final = struct.Struct("<IIII")
_TAIL: Final = struct.Struct("<III")
_FIRST_SLOT: Final = 32
_PAGE: Final = 4096
_NDB_BLOCK: Final = 16


class MalformedNdb(ValueError):
    """The file is no such database, or is damaged."""


def _read_ndb(path: str) -> Iterator[bytes]:
    """The header blobs in the file at `path`, by their packages' numbers. MalformedNdb, OSError."""
    with open(path, "rb") as stream:
        if os.fstat(stream.fileno()).st_size < _PAGE:
            raise MalformedNdb("it is shorter than a page")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            for number, at, room in _slots(data):
                yield _blob(data, number, at, room)


def _slots(data: mmap.mmap) -> list[tuple[int, int, int]]:
    """Package number, offset and room in bytes of each blob; no two lie over each other."""
    magic, version, _, pages = _FILE_HEAD.unpack_from(data)
    if (magic, version) != (_MAGIC, 0) or not 0 < pages <= len(data) // _PAGE:
        raise MalformedNdb("its first page is not that of an ndb")
    found = []
    for offset in range(_FIRST_SLOT, pages * _PAGE, _FOUR.size):
        magic, number, block, blocks = _FOUR.unpack_from(data, offset)
        if number:
            found.append((number, block * _NDB_BLOCK, blocks * _NDB_BLOCK))
        if magic != _SLOT:
            raise MalformedNdb("a slot without its magic")
    end = pages * _PAGE
    for _, at, room in sorted(found, key=lambda slot: slot[1]):
        if at < end or room < _FOUR.size + _TAIL.size:
            raise MalformedNdb("a slot points into another's place")
        end = at + room
    if end > len(data) or len({number for number, _, _ in found}) != len(found):
        raise MalformedNdb("a slot points past the end, or a package stands twice")
    return sorted(found)


def _blob(data: mmap.mmap, number: int, at: int, room: int) -> bytes:
    tail_at = at + room - _TAIL.size
    magic, owner, _, size = _FOUR.unpack_from(data, at)
    checksum, size_again, end = _TAIL.unpack_from(data, tail_at)
    begin = at + _FOUR.size
    if (magic, owner, end) != (_BEGIN, number, _END) or size != size_again:
        raise MalformedNdb(f"the header of package {number} is not there")
    if not 0 < size <= min(_HEADER_MAX, tail_at - begin):
        raise MalformedNdb(f"package {number} has no header")
    if zlib.adler32(data[at:tail_at]) != checksum:
        raise MalformedNdb(f"the header of package {number} is damaged")
    return data[begin : begin + size]


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


_READERS: Final = {"sqlite": _rows, "ndb": _read_ndb}


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


def _copy(root: str, source: str, target: str, size_max: int) -> None:
    fd = opening.open_in_root(root, source, os.O_RDONLY | os.O_NONBLOCK)
    try:
        before = os.fstat(fd)
        if before.st_size > size_max:
            raise DatabaseUnreadable(errno.EFBIG, f"{source} is too large")
        with open(target, "xb") as copy:
            while block := os.read(fd, _BLOCK):
                copy.write(block)
                if copy.tell() > size_max:
                    raise DatabaseUnreadable(errno.EFBIG, f"{source} is too large")
        after = os.fstat(fd)
    finally:
        os.close(fd)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise DatabaseUnreadable(errno.EAGAIN, f"{source} changed while it was read")
