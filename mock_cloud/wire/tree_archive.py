# SPDX-License-Identifier: GPL-2.0-or-later
"""A directory tree as one stream of bytes: what both ends speak where files travel together.

::

    archive   = MAGIC member* "."
    member    = directory | file | blob | link
    directory = "d" facts member* "u"
    file      = "f" facts (length data)* 0        length: u32, 1 to CHUNK_MAX_BYTES
    blob      = "b" facts sha256                  contents: the input with this digest
    link      = "l" facts length target           length: u16
    facts     = owner mode mtime length name      u8, u16, i64 in ns, u16; numbers are big-endian

There are names and no paths: a member lies in the directory that was entered last, so nothing can
be put where a link leads. Nothing has a size that is not there in bytes, and no piece is larger
than CHUNK_MAX_BYTES. docs/decisions/0037 says why it is no tar.
"""

from __future__ import annotations

import enum
import os
import stat
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import field
from typing import IO, Final, NamedTuple

from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.files import NAME_MAX_BYTES

_MAGIC: Final = b"mock-cloud tree 1\n"
CHUNK_MAX_BYTES: Final = 1 << 20
TARGET_MAX_BYTES: Final = 4095
"""What symlink(2) takes: PATH_MAX of linux/limits.h without the NUL."""

DEPTH_MAX: Final = 200
"""Directories in one another; both ends hold a descriptor for each."""

MEMBERS_MAX: Final = 1_000_000

_FACTS: Final = struct.Struct(">BHqH")
_LENGTH: Final = struct.Struct(">I")
_SHORT: Final = struct.Struct(">H")
_END: Final = b"."
_TIME_MAX_NS: Final = (1 << 63) - 1
_READ: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC


class TreeError(ValueError):
    """The bytes are no archive, or one beyond the bounds."""


class Kind(enum.Enum):
    """What a member is. UP ends the directory that was entered last."""

    DIRECTORY = b"d"
    FILE = b"f"
    BLOB = b"b"
    LINK = b"l"
    UP = b"u"


@dataclass(frozen=True, slots=True)
class Facts:
    """What is told of a member besides its name.

    `owner` is a number that both ends agree upon, not a uid: 0 unless somebody gave it a meaning.
    """

    mode: int = 0o644
    mtime_ns: int = 0
    owner: int = 0

    @classmethod
    def of(cls, found: os.stat_result, owner: int = 0) -> Facts:
        mtime_ns = max(-_TIME_MAX_NS, min(found.st_mtime_ns, _TIME_MAX_NS))
        return cls(stat.S_IMODE(found.st_mode), mtime_ns, owner)


@dataclass(frozen=True, slots=True)
class Member:
    """One member. `target` is a link's, or the digest of a blob (hex)."""

    kind: Kind
    name: str = ""
    facts: Facts = field(default_factory=Facts)
    target: str = ""


class Problem(NamedTuple):
    """What could not be packed, and why. `special`: it is no file, no directory and no link."""

    path: str
    why: str
    special: bool = False


class Reader:
    """Iterates over the members of an archive. TreeError for anything that is not as above.

    No more than CHUNK_MAX_BYTES are in memory, whatever the archive says. After a FILE its
    contents may be taken with `chunks`, before the next member.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._in_file = False

    def __iter__(self) -> Iterator[Member]:
        if self._exactly(len(_MAGIC)) != _MAGIC:
            raise TreeError("it does not begin as a tree does")
        depth = count = 0
        while True:
            for _ in self.chunks():
                pass
            mark = self._exactly(1)
            if mark == _END:
                break
            member = self._member(mark)
            count += member.kind is not Kind.UP
            depth += {Kind.DIRECTORY: 1, Kind.UP: -1}.get(member.kind, 0)
            if count > MEMBERS_MAX:
                raise TreeError(f"it has more than {MEMBERS_MAX} members")
            if not 0 <= depth <= DEPTH_MAX:
                raise TreeError("it leaves its top" if depth < 0 else "it is too deep")
            yield member
        if depth:
            raise TreeError("it ends in the middle")
        if self._stream.read(1):
            raise TreeError("it goes on after its end")

    def chunks(self) -> Iterator[bytes]:
        """The contents of the FILE just read, or what is left of them. Nothing for others."""
        while self._in_file:
            (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size))
            if length > CHUNK_MAX_BYTES:
                raise TreeError("a piece of a file is too large")
            if length:
                yield self._exactly(length)
            else:
                self._in_file = False

    def _member(self, mark: bytes) -> Member:
        try:
            kind = Kind(mark)
        except ValueError:
            raise TreeError(f"it has a member of kind {mark!r}") from None
        if kind is Kind.UP:
            return Member(kind)
        owner, mode, mtime_ns, length = _FACTS.unpack(self._exactly(_FACTS.size))
        if mode > 0o7777 or length > NAME_MAX_BYTES:
            raise TreeError("a member has a mode or a name beyond what a file may have")
        name = self._exactly(length)
        if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
            raise TreeError(f"it has the name {name!a}")
        target = ""
        if kind is Kind.BLOB:
            target = self._exactly(32).hex()
        elif kind is Kind.LINK:
            (length,) = _SHORT.unpack(self._exactly(_SHORT.size))
            raw = self._exactly(min(length, TARGET_MAX_BYTES + 1))
            if not raw or b"\0" in raw or length > TARGET_MAX_BYTES:
                raise TreeError(f"the link {name!a} leads nowhere")
            target = os.fsdecode(raw)
        self._in_file = kind is Kind.FILE
        return Member(kind, os.fsdecode(name), Facts(mode, mtime_ns, owner), target)

    def _exactly(self, size: int) -> bytes:
        data = self._stream.read(size)
        while len(data) < size:  # a raw stream may give less
            more = self._stream.read(size - len(data))
            if not more:
                raise TreeError("it ends in the middle")
            data += more
        return data


class Writer:
    """Writes an archive. What cannot be packed is left out, and noted in `problems`.

    `find_owner` gives `Facts.owner` for a uid; `find_blob` may name the sha256 (hex) of a file that
    the other end has as a blob already, and which is then not sent here.
    """

    def __init__(
        self,
        stream: IO[bytes],
        *,
        find_owner: Callable[[int], int] | None = None,
        find_blob: Callable[[str, os.stat_result], str | None] | None = None,
    ) -> None:
        self.problems: list[Problem] = []
        self._stream = stream
        self._find_owner = find_owner or (lambda _: 0)
        self._find_blob = find_blob or (lambda *_: None)
        self._depth = self._count = 0
        stream.write(_MAGIC)

    def add(
        self,
        name: str,
        path: str,
        *,
        follow: bool = False,
        select: Callable[[str], bool] | None = None,
    ) -> None:
        """Pack a file, a link or a directory with all below it that `select` wants of its paths.

        `follow`: links are packed as what they lead to. TreeError beyond MEMBERS_MAX.
        """
        try:
            found = os.stat(path, follow_symlinks=follow)
            if stat.S_ISDIR(found.st_mode):
                self._add_directory(name, path, found, follow=follow, select=select)
            elif stat.S_ISREG(found.st_mode):
                self._add_file(name, path, follow=follow)
            elif stat.S_ISLNK(found.st_mode):
                target = os.fsencode(os.readlink(path))
                self._begin(Kind.LINK, name, self._facts(found))
                self._stream.write(_SHORT.pack(len(target)) + target)
            else:
                self.problems.append(Problem(path, _kind_of(found.st_mode), special=True))
        except OSError as error:
            self.problems.append(Problem(path, error.strerror or str(error)))

    def enter(self, name: str, facts: Facts) -> None:
        """Begin a directory, which `leave` ends."""
        self._begin(Kind.DIRECTORY, name, facts)
        self._depth += 1

    def leave(self) -> None:
        self._depth -= 1
        self._stream.write(Kind.UP.value)

    def file(self, name: str, chunks: Iterable[bytes], facts: Facts) -> None:
        """A file with the given contents, in pieces of any size."""
        self._begin(Kind.FILE, name, facts)
        try:
            for chunk in chunks:
                for start in range(0, len(chunk), CHUNK_MAX_BYTES):
                    piece = chunk[start : start + CHUNK_MAX_BYTES]
                    self._stream.write(_LENGTH.pack(len(piece)))
                    self._stream.write(piece)
        finally:
            self._stream.write(_LENGTH.pack(0))

    def close(self) -> None:
        """Write the end. The stream is the caller's."""
        self._stream.write(_END)
        self._stream.flush()

    def _add_directory(
        self, name: str, path: str, found: os.stat_result, *, follow: bool,
        select: Callable[[str], bool] | None,
    ) -> None:  # fmt: skip
        names = sorted(os.listdir(path))
        if self._depth == DEPTH_MAX:
            self.problems.append(Problem(path, f"more than {DEPTH_MAX} directories deep"))
            return
        self.enter(name, self._facts(found))
        for below in names:
            full = os.path.join(path, below)
            if select is None or select(full):
                self.add(below, full, follow=follow, select=select)
        self.leave()

    def _add_file(self, name: str, path: str, *, follow: bool) -> None:
        descriptor = os.open(path, _READ | (0 if follow else os.O_NOFOLLOW))
        with open(descriptor, "rb", buffering=0) as source:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise OSError(0, _kind_of(found.st_mode))
            digest = self._find_blob(path, found)
            if digest is None:
                chunks = iter(lambda: source.read(CHUNK_MAX_BYTES), b"")
                self.file(name, chunks, self._facts(found))
            else:
                self._begin(Kind.BLOB, name, self._facts(found))
                self._stream.write(bytes.fromhex(digest))

    def _facts(self, found: os.stat_result) -> Facts:
        return Facts.of(found, self._find_owner(found.st_uid))

    def _begin(self, kind: Kind, name: str, facts: Facts) -> None:
        self._count += 1
        if self._count > MEMBERS_MAX:
            raise TreeError(f"there are more than {MEMBERS_MAX} files")
        raw = os.fsencode(name)
        head = _FACTS.pack(facts.owner, facts.mode, facts.mtime_ns, len(raw))
        self._stream.write(kind.value + head + raw)


def _kind_of(mode: int) -> str:
    kinds = {
        stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFDIR: "a directory now",
    }  # fmt: skip
    return f"it is {kinds.get(stat.S_IFMT(mode), 'a special file')}"
