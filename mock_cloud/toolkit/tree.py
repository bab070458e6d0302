# SPDX-License-Identifier: GPL-2.0-or-later
"""Packages unpacked in memory: nothing that they name is ever written where they say.

Names are hostile although signed: a link may point anywhere, and is followed inside of the tree
only. What is neither a file, a directory nor a link has no place in a toolkit and is left out.
"""

from __future__ import annotations

import io
import posixpath
import re
import stat
import tarfile
from collections.abc import Iterator
from typing import Final

from mock_cloud.errors import InputError

TREE_MAX_BYTES: Final = 1 << 30
_LINKS_MAX: Final = 40  # the kernel's own bound, MAXSYMLINKS
# /bin and the like are links into /usr, made by a package that a toolkit does not need.
_MERGED: Final = ("bin", "lib", "lib32", "lib64", "sbin")

_CPIO_HEADER_BYTES: Final = 110
_HEX: Final = re.compile(rb"[0-9A-Fa-f]*")
_CPIO_MAGICS: Final = (b"070701", b"070702")
_CPIO_END: Final = "TRAILER!!!"


class Tree:
    """Files and links by path, relative to the root and without dots. Later ones win."""

    def __init__(self) -> None:
        self._files: dict[str, bytes] = {}
        self._links: dict[str, str] = {}
        self._bytes = 0

    def add_tar(self, data: bytes, source: str) -> None:
        """The members of a tar archive. InputError for a name that leaves the root."""
        try:
            with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
                for member in tar:
                    if member.issym():
                        self.add_link(member.name, member.linkname, source)
                    elif member.islnk():  # named from the root, not from the directory
                        self.add_link(member.name, f"/{member.linkname}", source)
                    elif member.isreg():
                        file = tar.extractfile(member)
                        self.add_file(member.name, file.read() if file else b"", source)
        except (tarfile.TarError, EOFError, UnicodeError) as error:
            raise InputError(f"{source} is damaged: {error}") from error

    def add_cpio(self, data: bytes, source: str) -> None:
        """The members of a cpio archive, "newc" (cpio(5)). InputError as above."""
        linked: dict[tuple[str, int], list[str]] = {}
        for name, mode, inode, content in _read_cpio(data, source):
            if stat.S_ISLNK(mode):
                self.add_link(name, content.decode("utf-8", "surrogateescape"), source)
            elif stat.S_ISREG(mode):
                # Of several names of one file, rpm gives the bytes to the last one.
                names = linked.setdefault((source, inode), [])
                names.append(name)
                for each in names if content else (name,):
                    self.add_file(each, content, source)

    def add_file(self, name: str, content: bytes, source: str) -> None:
        """One file. InputError for a name that leaves the root, or too much of everything."""
        path = _clean(name, source)
        self._bytes += len(content)
        if self._bytes > TREE_MAX_BYTES:
            raise InputError(f"{source}: the packages unpack to more than {TREE_MAX_BYTES} bytes")
        self._links.pop(path, None)
        self._files[path] = content

    def add_link(self, name: str, target: str, source: str) -> None:
        """A symbolic link; one that climbs above the root is refused here already."""
        path = _clean(name, source)
        _clean(_joined(path, target), source)
        self._files.pop(path, None)
        self._links[path] = target

    def find(self, path: str) -> str | None:
        """The path of the file that `path` leads to, following links; None if to none."""
        for _ in range(_LINKS_MAX):
            path = _merged(posixpath.normpath(path).lstrip("/"))
            if path in self._files:
                return path
            link = self._leading_link(path)
            if link is None:
                return None
            path = _joined(link, self._links[link]) + path[len(link) :]
        return None

    def read(self, path: str) -> bytes:
        """The bytes of a file at the exact `path`, as `find` and `below` give it."""
        return self._files[path]

    def below(self, directory: str) -> Iterator[str]:
        """The paths of all files below `directory`, links resolved, in order."""
        for path in sorted({*self._files, *self._links}):
            if path.startswith(f"{directory}/") and self.find(path) is not None:
                yield path

    def _leading_link(self, path: str) -> str | None:
        parts = path.split("/")
        for count in range(1, len(parts) + 1):
            head = "/".join(parts[:count])
            if head in self._links:
                return head
        return None


def _joined(path: str, target: str) -> str:
    """Where a link at `path` points, from the root; dots are left in."""
    if target.startswith("/"):
        return target.lstrip("/")
    return posixpath.join(posixpath.dirname(path), target)


def _merged(path: str) -> str:
    head, slash, _ = path.partition("/")
    return f"usr/{path}" if slash and head in _MERGED else path


def _clean(name: str, source: str) -> str:
    """`name` from the root; "./x" and "/x" are the same. InputError if it leaves the root."""
    depth = 0
    for part in name.split("/"):
        depth += {"": 0, ".": 0, "..": -1}.get(part, 1)
        if depth < 0:
            raise InputError(f"{source}: {name!r} lies outside of the package")
    if not name or "\0" in name:
        raise InputError(f"{source}: {name!r} is not a file name")
    return _merged(posixpath.normpath(f"/{name}").lstrip("/"))


def _read_cpio(data: bytes, source: str) -> Iterator[tuple[str, int, int, bytes]]:
    """Name, mode, inode number and bytes of each member."""
    at = 0
    while True:
        head = data[at : at + _CPIO_HEADER_BYTES]
        try:
            if len(head) < _CPIO_HEADER_BYTES or head[:6] not in _CPIO_MAGICS:
                raise ValueError("no cpio header")
            if not _HEX.fullmatch(head, 6):
                raise ValueError("no numbers in its header")
            fields = [int(head[6 + 8 * i : 14 + 8 * i], 16) for i in range(13)]
            inode, mode, size, name_size = fields[0], fields[1], fields[6], fields[11]
            body = _aligned(at + _CPIO_HEADER_BYTES + name_size)
            name = data[at + _CPIO_HEADER_BYTES :][: name_size - 1].decode()
            if name_size < 1 or body + size > len(data):
                raise ValueError("cut off")
        except ValueError as error:
            raise InputError(f"{source} is damaged: {error} at byte {at}") from error
        if name == _CPIO_END:
            return
        yield name, mode, inode, data[body : body + size]
        at = _aligned(body + size)


def _aligned(offset: int) -> int:
    return offset + -offset % 4
