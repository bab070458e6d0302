# SPDX-License-Identifier: GPL-2.0-or-later
"""Unpacks a `tree_archive` into an open directory, and nowhere else: the only unpacker there is.

Each directory is opened in the one above it, never by a path and never through a link; each file
is created, never opened. So no member can reach what another one's link leads to.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.tree_archive import Kind, Member, Reader, TreeError

DIRECTORY_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW: Final = ".mock-cloud-new"

Keep = Callable[[Sequence[str], str], bool]


@dataclass(frozen=True, slots=True)
class Unpacker:
    """How members become files.

    `replace`: what is there already makes way, and directories are gone on with; else it is
    FileExistsError. `keeps_directories`: those that are there keep their modes and times.
    `mode_mask` is what files keep of their modes, and `directory_bits` what directories have
    besides. `owners`: (uid, gid) by `Facts.owner`; without them all is the caller's. `keeps_link`
    is asked with a link's place (names from where `fill` began) and target; without it links may
    say anything, since nothing follows them. `read_blob` gives the contents of a blob by its
    digest; without it an archive may have none. `on_member` is called before each one.
    """

    replace: bool = False
    keeps_directories: bool = False
    mode_mask: int = 0o777
    directory_bits: int = 0o700
    owners: Sequence[tuple[int, int]] = ()
    keeps_link: Keep = lambda _place, _target: True
    read_blob: Callable[[str], Iterable[bytes]] | None = None
    on_member: Callable[[], None] = lambda: None

    def unpack(self, reader: Reader, descriptor: int) -> None:
        """All of the archive into the open directory. TreeError, OSError."""
        self.fill(reader, iter(reader), descriptor)

    def fill(self, reader: Reader, members: Iterator[Member], descriptor: int) -> None:
        """The members up to the end of the directory that was entered last."""
        opened: list[tuple[int, Member, bool]] = []
        here = descriptor
        try:
            for member in members:
                self.on_member()
                if member.kind is Kind.UP:
                    if not opened:
                        return
                    ended, begun, is_new = opened.pop()
                    here = opened[-1][0] if opened else descriptor
                    self._end_directory(ended, begun, is_new)
                elif member.kind is Kind.DIRECTORY:
                    is_new = not stat.S_ISDIR(find_mode(here, member.name))
                    here = self._open_or_make(member.name, here)
                    opened.append((here, member, is_new))
                elif member.kind is Kind.LINK:
                    place = [*(begun.name for _, begun, _ in opened), member.name]
                    if self.keeps_link(place, member.target):
                        self._link(member, here)
                else:
                    self._file(member, self._contents(reader, member), here)
        finally:
            for left, _, _ in opened:
                os.close(left)

    def _contents(self, reader: Reader, member: Member) -> Iterator[bytes]:
        if member.kind is Kind.FILE:
            yield from reader.chunks()
        elif self.read_blob is None:
            raise TreeError(f"the contents of {member.name!a} are not in it")
        else:
            yield from self.read_blob(member.target)

    def _file(self, member: Member, chunks: Iterable[bytes], here: int) -> None:
        name = member.name
        if self.replace:
            name = _NEW
            if stat.S_ISDIR(find_mode(here, member.name)):
                remove(here, member.name)
            remove(here, _NEW)
        with open(os.open(name, _CREATE, 0o600, dir_fd=here), "wb", buffering=0) as stream:
            for chunk in chunks:
                view = memoryview(chunk)
                while view:
                    view = view[stream.write(view) :]
            self.set_facts(stream.fileno(), member)
        if self.replace:
            os.rename(_NEW, member.name, src_dir_fd=here, dst_dir_fd=here)

    def _link(self, member: Member, here: int) -> None:
        if self.replace:
            remove(here, member.name)
        os.symlink(member.target, member.name, dir_fd=here)
        if self.owners:
            owner = self._owner(member)
            os.chown(member.name, *owner, dir_fd=here, follow_symlinks=False)
        times = (member.facts.mtime_ns, member.facts.mtime_ns)
        os.utime(member.name, ns=times, dir_fd=here, follow_symlinks=False)

    def _open_or_make(self, name: str, here: int) -> int:
        if self.replace:
            return open_or_make(here, name)
        os.mkdir(name, 0o700, dir_fd=here)
        return os.open(name, DIRECTORY_FLAGS, dir_fd=here)

    def _end_directory(self, descriptor: int, member: Member, is_new: bool) -> None:
        try:
            # One that somebody else made stays as it is, unless owners are ours to decide.
            others = not self.owners and os.fstat(descriptor).st_uid != os.geteuid()
            if is_new or not (others or self.keeps_directories):
                self.set_facts(descriptor, member)
        finally:
            os.close(descriptor)

    def set_facts(self, descriptor: int, member: Member) -> None:
        """Owner, mode and time of a file or directory that the caller made for `member`."""
        mode = member.facts.mode & self.mode_mask
        if member.kind is Kind.DIRECTORY:
            mode |= self.directory_bits
        if self.owners:
            os.fchown(descriptor, *self._owner(member))
        os.fchmod(descriptor, mode)  # after the owner: chown(2) takes set-id bits away
        os.utime(descriptor, ns=(member.facts.mtime_ns, member.facts.mtime_ns))

    def _owner(self, member: Member) -> tuple[int, int]:
        if member.facts.owner >= len(self.owners):
            raise TreeError(f"{member.name!a} has an owner that nobody knows")
        return self.owners[member.facts.owner]


@contextlib.contextmanager
def below(descriptor: int, names: Sequence[str]) -> Iterator[int]:
    """A descriptor of a directory below, made if need be, also in place of what is none."""
    here = os.dup(descriptor)
    try:
        for name in names:
            deeper = open_or_make(here, name)
            os.close(here)
            here = deeper
        yield here
    finally:
        os.close(here)


def open_or_make(here: int, name: str) -> int:
    """A descriptor of the directory `name`, made if need be, also in place of what is none."""
    mode = find_mode(here, name)
    if not stat.S_ISDIR(mode):
        if mode:
            os.unlink(name, dir_fd=here)
        os.mkdir(name, 0o755, dir_fd=here)
    elif not os.access(name, os.W_OK, dir_fd=here):
        _take_over(here, name)
    return os.open(name, DIRECTORY_FLAGS, dir_fd=here)


def _take_over(here: int, name: str) -> None:
    # Koji's builder, which is root, makes a directory for a command's output just before it
    # starts us, who are not root. One with anything in it stays.
    os.mkdir(_NEW, 0o755, dir_fd=here)
    try:
        os.rename(_NEW, name, src_dir_fd=here, dst_dir_fd=here)
    except OSError:
        os.rmdir(_NEW, dir_fd=here)


def find_mode(here: int, name: str) -> int:
    """st_mode of what is there, a link's own; 0 if there is nothing."""
    try:
        return os.stat(name, dir_fd=here, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return 0


def remove(here: int, name: str) -> None:
    """Remove what is there, with all that is below it; nothing if nothing is."""
    mode = find_mode(here, name)
    if stat.S_ISDIR(mode):
        descriptor = os.open(name, DIRECTORY_FLAGS, dir_fd=here)
        try:
            for inside in os.listdir(descriptor):
                remove(descriptor, inside)
        finally:
            os.close(descriptor)
        os.rmdir(name, dir_fd=here)
    elif mode:
        os.unlink(name, dir_fd=here)


def remove_below(descriptor: int, names: Sequence[str]) -> None:
    """Remove what lies at `names` below an open directory; nothing where there is no such place."""
    here = os.dup(descriptor)
    try:
        for name in names[:-1]:
            deeper = os.open(name, DIRECTORY_FLAGS, dir_fd=here)
            os.close(here)
            here = deeper
        remove(here, names[-1])
    except (FileNotFoundError, NotADirectoryError):
        pass
    finally:
        os.close(here)
