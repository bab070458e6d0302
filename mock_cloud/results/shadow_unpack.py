# SPDX-License-Identifier: GPL-2.0-or-later
"""Brings a shadow directory to what a node's results/shadow.tar says: hostile input.

Every directory is opened as it is, without following links, and nothing but directories, regular
files and links that stay in the shared directory is made. Koji's builder, which is root, walks
there afterwards.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import stat
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from mock_cloud.agent.engine.shadow_tree import FACTS_NAME, RPMDB_PLACES, Facts
from mock_cloud.errors import ResultError
from mock_cloud.invocation.names import NAME_MAX_BYTES, printable
from mock_cloud.results.archive import open_archive
from mock_cloud.results.disk import translate

MEMBERS_MAX: Final = 500_000
_FACTS_MAX_BYTES: Final = 64 << 20
_PARTS_MAX: Final = 200
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_RPMDB_NAME: Final = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.-]{0,80}")
_NEW: Final = ".mock-cloud-new"


def unpack_shadow(archive: Path, root: Path, tmpdir: str) -> list[str]:
    """Apply the node's `archive` to `root`; `tmpdir` is the shared directory's path in it.

    Returns the links that were left out since they lead out of `tmpdir`. ResultError for an
    archive that asks for anything else than it may.
    """
    left_out: list[str] = []
    try:
        with open_archive(archive) as tar, _Directory(root) as top:
            facts = _read_facts(tar)
            with top.below(_parts(tmpdir.lstrip("/"))) as shared:
                for path in facts.removed:
                    shared.remove(_parts(path))
                written = _unpack_members(tar, top, shared, facts, left_out)
            if facts.rpmdb:
                _forget_others(top, facts.rpmdb, written)
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise ResultError(f"the node's shadow archive is damaged: {error}") from error
    except OSError as error:
        raise translate(error, root) from error
    return left_out


def _read_facts(tar: tarfile.TarFile) -> Facts:
    member = tar.next()
    stream = None if member is None or member.name != FACTS_NAME else tar.extractfile(member)
    if member is None or stream is None or member.size > _FACTS_MAX_BYTES:
        raise ResultError(f"the node's shadow archive does not begin with {FACTS_NAME}")
    raw: Any = json.loads(stream.read())
    if not isinstance(raw, dict) or raw.keys() != {"rpmdb", "removed"}:
        raise ResultError(f"the node's {FACTS_NAME} has unknown or missing keys")
    removed = raw["removed"]
    if raw["rpmdb"] not in ("", *RPMDB_PLACES):
        raise ResultError(f"the node's {FACTS_NAME} names a strange place for packages")
    if not isinstance(removed, list) or not all(isinstance(path, str) for path in removed):
        raise ResultError(f"the node's {FACTS_NAME} is not what it should be")
    return Facts(raw["rpmdb"], removed)


def _unpack_members(
    tar: tarfile.TarFile, top: _Directory, shared: _Directory, facts: Facts, left_out: list[str]
) -> set[str]:
    """The names of the files of the database that were written."""
    links: list[tuple[list[str], str]] = []
    written: set[str] = set()
    for count, member in enumerate(tar):
        if count >= MEMBERS_MAX:
            raise ResultError("the node's shadow archive has too many members")
        if member.name == FACTS_NAME and count == 0:
            continue  # iteration begins anew
        kind, _, name = member.name.partition("/")
        if member.sparse is not None or not (member.isdir() or member.issym() or member.isreg()):
            raise ResultError(f"the node's shadow archive has a special file: {_shown(member)}")
        if kind == "tmpdir":
            parts = _parts(name)
            if not member.issym():
                _place(tar, member, shared, parts)
            elif _stays_inside(parts, member.linkname):
                links.append((parts, member.linkname))
            else:
                left_out.append(name)
        elif kind == "rpmdb" and facts.rpmdb and member.isreg() and _RPMDB_NAME.fullmatch(name):
            with top.below(facts.rpmdb.split("/")) as directory:
                directory.replace_file(tar, member, name)
            written.add(name)
        else:
            raise ResultError(f"the node's shadow archive has a strange member: {_shown(member)}")
    # Last, so that nothing of the archive is written where one leads.
    for parts, target in links:
        with shared.below(parts[:-1]) as parent:
            parent.link(parts[-1], target)
    return written


def _place(
    tar: tarfile.TarFile, member: tarfile.TarInfo, shared: _Directory, parts: list[str]
) -> None:
    if member.isdir():
        with shared.below(parts) as directory:
            directory.set_mode(member.mode & 0o777 | 0o700)
        return
    with shared.below(parts[:-1]) as parent:
        parent.replace_file(tar, member, parts[-1])


def _forget_others(top: _Directory, rpmdb: str, written: set[str]) -> None:
    """What an earlier database left, and what reading it made."""
    with top.below(rpmdb.split("/")) as directory:
        for name in directory.names():
            if name not in written:
                directory.remove([name])
    for other in RPMDB_PLACES:
        if other != rpmdb:
            top.remove(other.split("/"))


def _stays_inside(parts: Sequence[str], target: str) -> bool:
    """Whether a link leads to nothing outside, whatever other such links are on its way.

    Steps up come first: from a real directory they lead to real ones. Then it goes down only.
    """
    words = target.split("/")
    ups = 0
    while ups < len(words) and words[ups] == "..":
        ups += 1
    downs = [word for word in words[ups:] if word not in ("", ".")]
    return bool(target) and target[0] != "/" and ups < len(parts) and ".." not in downs


def _parts(name: str) -> list[str]:
    parts = name.split("/")
    odd = any(
        part in ("", ".", "..")
        or len(part.encode(errors="surrogateescape")) > NAME_MAX_BYTES
        or any(ord(character) < 32 or ord(character) == 127 for character in part)
        for part in parts
    )
    if odd or len(parts) > _PARTS_MAX:
        raise ResultError(f"the node's shadow archive has a name that is refused: {name!a}")
    return parts


def _shown(member: tarfile.TarInfo) -> str:
    return printable(member.name[:200])


class _Directory:
    """An open directory, and what may be done in it. Use it as a context manager."""

    def __init__(self, path: Path | int) -> None:
        self._fd = path if isinstance(path, int) else os.open(path, _DIRECTORY)

    def __enter__(self) -> _Directory:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    @contextlib.contextmanager
    def below(self, parts: Sequence[str]) -> Iterator[_Directory]:
        """A directory below, made if need be, also in place of what is none."""
        here = _Directory(os.dup(self._fd))
        try:
            for part in parts:
                below = here._open_or_make(part)
                os.close(here._fd)
                here._fd = below
            yield here
        finally:
            os.close(here._fd)

    def _open_or_make(self, name: str) -> int:
        mode = self._mode(name)
        if not stat.S_ISDIR(mode):
            if mode:
                os.unlink(name, dir_fd=self._fd)
            os.mkdir(name, 0o755, dir_fd=self._fd)
        elif not os.access(name, os.W_OK, dir_fd=self._fd):
            self._take_over(name)
        return os.open(name, _DIRECTORY, dir_fd=self._fd)

    def _take_over(self, name: str) -> None:
        # Koji's builder, which is root, makes a directory for a command's output just before it
        # starts us, who are not root. One with anything in it stays.
        os.mkdir(_NEW, 0o755, dir_fd=self._fd)
        try:
            os.rename(_NEW, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
        except OSError:
            os.rmdir(_NEW, dir_fd=self._fd)

    def _mode(self, name: str) -> int:
        try:
            return os.stat(name, dir_fd=self._fd, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return 0

    def names(self) -> list[str]:
        return [entry.name for entry in os.scandir(self._fd)]

    def set_mode(self, mode: int) -> None:
        # A directory that somebody else made stays as it is.
        if os.fstat(self._fd).st_uid == os.geteuid():
            os.fchmod(self._fd, mode)

    def remove(self, parts: Sequence[str]) -> None:
        """Remove what is there, with all that is below it; nothing if nothing is."""
        here = os.dup(self._fd)
        try:
            for part in parts[:-1]:
                below = os.open(part, _DIRECTORY, dir_fd=here)
                os.close(here)
                here = below
            facts = os.stat(parts[-1], dir_fd=here, follow_symlinks=False)
            if stat.S_ISDIR(facts.st_mode):
                shutil.rmtree(f"/proc/self/fd/{here}/{parts[-1]}")
            else:
                os.unlink(parts[-1], dir_fd=here)
        except (FileNotFoundError, NotADirectoryError):
            pass
        finally:
            os.close(here)

    def replace_file(self, tar: tarfile.TarFile, member: tarfile.TarInfo, name: str) -> None:
        source = tar.extractfile(member)
        if source is None:
            raise ResultError(f"the node's shadow archive is damaged: {_shown(member)}")
        if stat.S_ISDIR(self._mode(name)):
            self.remove([name])
        with contextlib.suppress(FileNotFoundError):
            os.unlink(_NEW, dir_fd=self._fd)
        with os.fdopen(os.open(_NEW, _CREATE, 0o600, dir_fd=self._fd), "wb") as stream:
            shutil.copyfileobj(source, stream, 1 << 20)
            os.fchmod(stream.fileno(), member.mode & 0o777 | 0o600)
            os.utime(stream.fileno(), (member.mtime, member.mtime))
        os.rename(_NEW, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def link(self, name: str, target: str) -> None:
        self.remove([name])
        os.symlink(target, name, dir_fd=self._fd)
