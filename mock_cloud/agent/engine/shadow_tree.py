# SPDX-License-Identifier: GPL-2.0-or-later
"""Packing and placing what a shadow directory has of a chroot. Runs in a child that is chrooted.

So no name and no link that a build left can mean a file of the node.
"""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import stat
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import IO, Final

RPMDB_PLACES: Final = ("usr/lib/sysimage/rpm", "var/lib/rpm")
"""Where the packages' database may be, in the order in which Koji looks for it."""

FACTS_NAME: Final = "shadow.json"
BUILD_USER: Final = 1
"""The owner that stands for the build user in a tar of role tmpdir; everything else is root's."""

_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

Listing = dict[str, list[int | str]]
"""Relative path → facts that differ as soon as what stands there does."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What stands in the archive's first member.

    `rpmdb` is the database's place, empty if it is not packed. `removed` are paths below tmpdir.
    """

    rpmdb: str
    removed: list[str]


def walk(top: str) -> Iterator[tuple[str, os.stat_result]]:
    """Directories, regular files and links below `top`, parents first; nothing special."""
    try:
        entries = sorted(os.scandir(top), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        facts = entry.stat(follow_symlinks=False)
        if stat.S_ISDIR(facts.st_mode):
            yield entry.name, facts
            for path, below in walk(entry.path):
                yield f"{entry.name}/{path}", below
        elif stat.S_ISREG(facts.st_mode) or stat.S_ISLNK(facts.st_mode):
            yield entry.name, facts


def take_listing(top: str) -> Listing:
    """What is below `top`, which may be missing. Of directories only what they are counts."""
    found: Listing = {}
    for path, facts in walk(top):
        signature: list[int | str] = [facts.st_mode, facts.st_uid, facts.st_gid]
        if not stat.S_ISDIR(facts.st_mode):
            signature += [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino]
        found[path] = signature
    return found


def find_rpmdb(root: str = "/") -> str:
    """The place of the packages' database relative to `root`; empty if there is none."""
    for place in RPMDB_PLACES:
        if os.path.isdir(os.path.join(root, place)):
            return place
    return ""


def place(
    stream: IO[bytes], top: str, removed: Iterable[str], owner: tuple[int, int], *,
    whole: bool,
) -> None:  # fmt: skip
    """Bring the directory `top` to what the controller has: remove, then unpack `stream`.

    An empty `stream` is an archive without members.
    """
    if not stat.S_ISDIR(_mode(top)):
        _remove(top)
        os.mkdir(top, 0o755)
    if whole:
        for name in os.listdir(top):
            _remove(os.path.join(top, name))
    for path in removed:
        _remove(os.path.join(top, path))
    if not os.fstat(stream.fileno()).st_size:
        return
    with tarfile.open(fileobj=stream, mode="r:") as archive:
        for member in archive:
            _place_member(archive, member, os.path.join(top, member.name), owner)


def _place_member(
    archive: tarfile.TarFile, member: tarfile.TarInfo, target: str, owner: tuple[int, int]
) -> None:
    there = _mode(target)
    if there and not (member.isdir() and stat.S_ISDIR(there)):
        _remove(target)
    if member.issym():
        os.symlink(member.linkname, target)
    elif member.isdir():
        os.makedirs(target, exist_ok=True)
    else:
        source = archive.extractfile(member)
        assert source is not None  # noqa: S101 (for mypy: the controller packs nothing else)
        with open(target, "wb") as writer:
            shutil.copyfileobj(source, writer, 1 << 20)
    uid, gid = owner if member.uid == BUILD_USER else (0, 0)
    os.chown(target, uid, gid, follow_symlinks=False)
    if not member.issym():
        os.chmod(target, member.mode & 0o7777)
        os.utime(target, (member.mtime, member.mtime))


def _mode(path: str) -> int:
    try:
        return os.lstat(path).st_mode
    except FileNotFoundError:
        return 0


def _remove(path: str) -> None:
    mode = _mode(path)
    if stat.S_ISDIR(mode):
        shutil.rmtree(path)
    elif mode:
        os.unlink(path)


def pack(stream: io.BufferedWriter, top: str, before: Listing, rpmdb: str) -> None:
    """Write a tar of what is other in `top` than `before`, and of the database at `rpmdb`.

    `rpmdb` is empty when it is not wanted. A file that vanishes meanwhile is left out.
    """
    now = take_listing(top)
    removed = sorted(path for path in before if path not in now)
    # What is below a directory that is gone needs no mention.
    kept = [path for path in removed if os.path.dirname(path) not in set(removed)]
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        text = json.dumps(asdict(Facts(rpmdb, kept))).encode()
        archive.addfile(_info(FACTS_NAME, len(text)), io.BytesIO(text))
        for path in sorted(path for path in now if before.get(path) != now[path]):
            add(archive, f"tmpdir/{path}", os.path.join(top, path))
        for name in sorted(os.listdir(f"/{rpmdb}")) if rpmdb else ():
            full = f"/{rpmdb}/{name}"
            if stat.S_ISREG(_mode(full)):
                add(archive, f"rpmdb/{name}", full)
    stream.flush()


def add(
    archive: tarfile.TarFile, name: str, path: str, owners: Mapping[int, int] | None = None
) -> None:
    """Add a directory, regular file or link to the archive; nothing if it is gone or another kind.

    `owners` says which uid in the archive stands for which; 0 for all others.
    """
    try:
        facts = os.lstat(path)
        info = _info(name, 0)
        info.mode = stat.S_IMODE(facts.st_mode)
        info.mtime = facts.st_mtime
        info.uid = (owners or {}).get(facts.st_uid, 0)
        if stat.S_ISDIR(facts.st_mode):
            info.type = tarfile.DIRTYPE
            archive.addfile(info)
        elif stat.S_ISLNK(facts.st_mode):
            info.type, info.linkname = tarfile.SYMTYPE, os.readlink(path)
            archive.addfile(info)
        elif stat.S_ISREG(facts.st_mode):
            with open(os.open(path, _READ), "rb") as stream:
                info.size = os.fstat(stream.fileno()).st_size
                archive.addfile(info, stream)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise


def _info(name: str, size_bytes: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size_bytes
    info.mode = 0o644
    return info
