# SPDX-License-Identifier: GPL-2.0-or-later
"""Measuring entries: what they are, who owns them, and what is in them.

This is the hot loop: a system has some hundred thousand files, most of them small, so each
costs as few system calls as it can: open, fstat, read, listxattr, fstat, close.
"""

from __future__ import annotations

import errno
import os
import resource
import stat
import time
from dataclasses import field
from hashlib import sha256
from json.encoder import encode_basestring_ascii as quoted
from typing import Final

from mock_cloud.agent.measure import opening
from mock_cloud.agent.measure.walk import Root, Task, Unreadable, errno_name
from mock_cloud.wire.dataclass import dataclass

XATTRS: Final = frozenset({
    "security.capability", "security.selinux",
    "system.posix_acl_access", "system.posix_acl_default",
    # A layer's files mean something else with these; the engine leaves none of them.
    "trusted.overlay.metacopy", "trusted.overlay.opaque", "trusted.overlay.redirect",
})  # fmt: skip

BIG_BYTES: Final = 1 << 20
"""Files of at least this size are left for a second round, shared out by size."""

_ONE_READ_BYTES: Final = 128 << 10
_BLOCK_BYTES: Final = 256 << 10  # stays in a core's second-level cache while it is hashed
_SIZE_MAX: Final = 64 << 30
_HOLES_MAX: Final = 1 << 30
_AHEAD_FILES: Final = 64
_AHEAD_BYTES: Final = 1 << 20

_KINDS: Final = {
    stat.S_IFREG: "f", stat.S_IFDIR: "d", stat.S_IFLNK: "l", stat.S_IFCHR: "c",
    stat.S_IFBLK: "b", stat.S_IFIFO: "p", stat.S_IFSOCK: "s",
}  # fmt: skip

Deferred = tuple[int, int, str, str]
"""Size in bytes, root number, directory, name: a big file for the second round."""

Seen = dict[str, str]
"""What was found of regular files, but for their names: INODE:CTIME_NS → the rest of the row.

The kernel sets the time whenever content, size, mode, owner or attributes change."""

_SETTLED_NS: Final = 2_000_000_000  # some file systems count in seconds


class Changed(Exception):
    """The file was not the same after reading as before."""


@dataclass(slots=True)
class Meter:
    """Measures tasks of `roots`, one after the other, in one process.

    `rows` has the JSON text of each entry by sink, `unreadable` what could not be measured,
    `deferred` the big files that were put aside, `totals` regular files and bytes by sink.
    `cold`: the disk has to be waited for, so it is asked ahead (known from the second task on).
    `known`: of files seen before; where it is not None, `seen` has what the next measurement can
    know. Nothing changed in the last two seconds is in it.
    """

    roots: list[Root]
    known: Seen | None = None
    seen: Seen = field(default_factory=dict)
    rows: dict[int, list[str]] = field(default_factory=dict)
    unreadable: list[Unreadable] = field(default_factory=list)
    deferred: list[Deferred] = field(default_factory=list)
    totals: dict[int, tuple[int, int]] = field(default_factory=dict)
    _links: dict[tuple[int, int, int], str] = field(default_factory=dict)
    _block: memoryview = field(default_factory=lambda: memoryview(bytearray(_BLOCK_BYTES)))
    _flags: int = opening.FILE | os.O_NOATIME
    _blocks_in: int = -1
    _settled_ns: int = field(default_factory=lambda: time.time_ns() - _SETTLED_NS)
    cold: bool = False

    def measure(self, task: Task, *, defer: bool = True) -> None:
        """All entries of `task`; big files are put aside if `defer`."""
        number, directory, names, others = task
        root = self.roots[number]
        try:
            dir_fd = opening.open_directory(root.fd, directory)
        except OSError as error:
            self.unreadable.append((root.node_path(directory), errno_name(error)))
            return
        try:
            for name in others:
                self._other(dir_fd, root, directory, name)
            if self.known:
                names = self._recall(self.known, dir_fd, number, directory, names)
            if self._is_cold():
                for start in range(0, len(names), _AHEAD_FILES):
                    chunk = names[start : start + _AHEAD_FILES]
                    self._read_ahead(dir_fd, chunk)
                    self._files(dir_fd, number, directory, chunk, defer)
            else:
                self._files(dir_fd, number, directory, names, defer)
        finally:
            os.close(dir_fd)

    def _files(
        self, dir_fd: int, number: int, directory: str, names: list[str], defer: bool
    ) -> None:
        """Rows of the regular files `names`. Written for speed: see the module's docstring."""
        root = self.roots[number]
        rows = self.rows.setdefault(root.sink, [])
        lead = root.label(directory)
        count, total = self.totals.get(root.sink, (0, 0))
        for name in names:
            try:
                fd = self._open(name, dir_fd)
            except OSError as error:
                self._failed(root, directory, name, error)
                continue
            try:
                before = os.fstat(fd)
                size = before.st_size
                if defer and size >= BIG_BYTES:
                    self.deferred.append((size, number, directory, name))
                    continue
                digest = self._digest(fd, before)
                xattrs = os.listxattr(fd)
                extra = _xattrs_json(fd, xattrs) if xattrs else "null"
                after = os.fstat(fd)
                if before.st_nlink > 1 and root.sink == 0 and not _is_packaged(lead):
                    self.unreadable.append((root.node_path(directory, name), "linked"))
                if after.st_ctime_ns != before.st_ctime_ns or after.st_size != size:
                    raise Changed
            except Changed:
                self.unreadable.append((root.node_path(directory, name), "changed"))
            except OSError as error:
                self._failed(root, directory, name, error)
            else:
                count += 1
                total += size
                facts = (
                    f'"f",{before.st_mode & 0o7777},{before.st_uid},{before.st_gid},{size},'
                    f'"{digest}",{extra}'
                )
                rows.append(f"[{quoted(lead + name)},{facts}]")
                if self.known is not None and before.st_ctime_ns < self._settled_ns:
                    self.seen[f"{before.st_ino}:{before.st_ctime_ns}"] = facts
            finally:
                os.close(fd)
        self.totals[root.sink] = (count, total)

    def _recall(
        self, known: Seen, dir_fd: int, number: int, directory: str, names: list[str]
    ) -> list[str]:
        """Rows of those of `names` that have not changed since they were seen; the others."""
        root = self.roots[number]
        rows = self.rows.setdefault(root.sink, [])
        lead = root.label(directory)
        count, total = self.totals.get(root.sink, (0, 0))
        others = []
        for name in names:
            try:
                now = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
            except OSError:
                others.append(name)  # told when it is opened
                continue
            key = f"{now.st_ino}:{now.st_ctime_ns}"
            facts = known.get(key)
            if facts is None or not stat.S_ISREG(now.st_mode):
                others.append(name)
                continue
            self.seen[key] = facts
            count += 1
            total += now.st_size
            rows.append(f"[{quoted(lead + name)},{facts}]")
        self.totals[root.sink] = (count, total)
        return others

    def _open(self, name: str, dir_fd: int) -> int:
        try:
            return os.open(name, self._flags, dir_fd=dir_fd)
        except PermissionError:
            if not self._flags & os.O_NOATIME:
                raise
            # Only the owner and CAP_FOWNER may leave the access time alone.
            return os.open(name, self._flags & ~os.O_NOATIME, dir_fd=dir_fd)

    def _digest(self, fd: int, before: os.stat_result) -> str:
        """sha256 in hex of the file at `fd`. Changed, OSError (EFBIG: out of bounds)."""
        size = before.st_size
        if not stat.S_ISREG(before.st_mode):
            raise Changed  # something else was put in its place since it was listed
        if before.st_nlink == 1:
            return (
                self._digest_small(fd, size) if size < _ONE_READ_BYTES else self._stream(fd, size)
            )
        key = (before.st_dev, before.st_ino, before.st_ctime_ns)
        digest = self._links.get(key)
        if digest is None:
            digest = self._links[key] = self._stream(fd, size)
        return digest

    def _digest_small(self, fd: int, size: int) -> str:
        data = os.read(fd, size + 1)
        if len(data) != size:
            raise Changed
        return sha256(data).hexdigest()

    def _stream(self, fd: int, size: int) -> str:
        digest = hash_stream(fd, size, self._block)
        if digest is None:
            raise Changed
        return digest

    def _other(self, dir_fd: int, root: Root, directory: str, name: str) -> None:
        """The row of anything but a regular file; "." is the directory itself."""
        try:
            facts = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
            kind = _KINDS[stat.S_IFMT(facts.st_mode)]
            value = "null"
            if kind == "f":
                raise Changed
            if kind == "l":
                value = quoted(os.readlink(name, dir_fd=dir_fd))
            elif kind in "cb":
                value = f'"{os.major(facts.st_rdev)}:{os.minor(facts.st_rdev)}"'
            at = dir_fd if name == "." else f"/proc/self/fd/{dir_fd}/{name}"
            xattrs = _list_xattrs(at)
            extra = _xattrs_json(at, xattrs) if xattrs else "null"
        except Changed:
            self.unreadable.append((root.node_path(directory, name), "changed"))
        except OSError as error:
            self._failed(root, directory, name, error)
        else:
            if name != ".":
                path = root.label(directory) + name
            else:
                path = root.own if directory == "." else root.lead + directory
            self.rows.setdefault(root.sink, []).append(
                f'[{quoted(path)},"{kind}",{facts.st_mode & 0o7777},{facts.st_uid},'
                f"{facts.st_gid},0,{value},{extra}]"
            )

    def _failed(self, root: Root, directory: str, name: str, error: OSError) -> None:
        # A link where a file was listed: O_NOFOLLOW answers ELOOP (open(2)).
        what = "changed" if error.errno == errno.ELOOP else errno_name(error)
        self.unreadable.append((root.node_path(directory, name), what))

    def _is_cold(self) -> bool:
        """Whether the last task had to wait for the disk."""
        blocks_in = resource.getrusage(resource.RUSAGE_SELF).ru_inblock
        if self._blocks_in >= 0:
            self.cold = self._blocks_in < blocks_in
        self._blocks_in = blocks_in
        return self.cold

    def _read_ahead(self, dir_fd: int, names: list[str]) -> None:
        """Ask the disk for the beginnings of `names` at once, so that it can order them."""
        for name in names:
            try:
                fd = os.open(name, opening.FILE, dir_fd=dir_fd)
            except OSError:
                continue  # told when it is measured
            try:
                os.posix_fadvise(fd, 0, _AHEAD_BYTES, os.POSIX_FADV_WILLNEED)
            except OSError:
                pass  # told when it is measured
            finally:
                os.close(fd)


def _is_packaged(directory: str) -> bool:
    """Whether files here have links by the thousand (of Python, of git), and none may vary."""
    return directory.startswith("/usr/") and not directory.startswith("/usr/lib/sysimage/")


def hash_stream(fd: int, size: int, block: memoryview) -> str | None:
    """sha256 in hex of the `size` bytes from the position of `fd`; None if it has not `size`.

    `block` is the buffer to read into. OSError, with EFBIG for a file out of bounds.
    """
    if size >= _HOLES_MAX:
        _check_bounds(fd, size)
    digest, done, buffers = sha256(), 0, [block]
    while done <= size and (count := os.readv(fd, buffers)):
        digest.update(block[:count])
        done += count
    return digest.hexdigest() if done == size else None


def _list_xattrs(at: int | str) -> list[str]:
    if isinstance(at, int):
        return os.listxattr(at)
    try:
        return os.listxattr(at, follow_symlinks=False)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return []
        raise


def _xattrs_json(at: int | str, names: list[str]) -> str:
    """The extended attributes that grant something, as a JSON object of hex, or null."""
    wanted = sorted(XATTRS.intersection(names))
    if not wanted:
        return "null"
    follow = isinstance(at, int)
    values = (os.getxattr(at, name, follow_symlinks=follow).hex() for name in wanted)
    pairs = (f'"{name}":"{value}"' for name, value in zip(wanted, values, strict=True))
    return "{" + ",".join(pairs) + "}"


def _check_bounds(fd: int, size: int) -> None:
    """EFBIG for a file too large to read, or with holes too large to hash as zeros."""
    if size <= _SIZE_MAX:
        data, held = 0, os.fstat(fd).st_blocks * 512
        if size - held < _HOLES_MAX:
            return
        # Compression makes few blocks too: only holes count (lseek(2), SEEK_HOLE).
        with_data = 0
        while data < size and with_data < size - _HOLES_MAX:
            try:
                data = os.lseek(fd, data, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    break
                raise
            end = os.lseek(fd, data, os.SEEK_HOLE)
            with_data, data = with_data + end - data, end
        os.lseek(fd, 0, os.SEEK_SET)
        if with_data >= size - _HOLES_MAX:
            return
    raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
