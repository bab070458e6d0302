# SPDX-License-Identifier: GPL-2.0-or-later
"""Packing and placing what a shadow directory has of a chroot. Runs in a child that is chrooted.

So no name and no link that a build left can mean a file of the node.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import IO, Final

from mock_cloud.wire import tree_archive, tree_unpack
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.layout import RPMDB_DIRS
from mock_cloud.wire.tree_archive import Reader, Writer
from mock_cloud.wire.tree_unpack import DIRECTORY_FLAGS, Unpacker

RPMDB_PLACES: Final = tuple(path.lstrip("/") for path in RPMDB_DIRS)
"""Relative to a chroot."""

SHADOW_LOG: Final = re.compile(r"dnf[A-Za-z0-9._-]{0,40}\.log")
"""A log of dnf in the chroot that is kept in the shadow."""

FACTS_NAME: Final = "shadow.json"
BUILD_USER: Final = 1
"""`Facts.owner` of what is the build user's in an input of role tmpdir; all else is root's."""

Listing = dict[str, list[int | str]]
"""Relative path → facts that differ as soon as what stands there does."""


@dataclass(frozen=True, slots=True)
class ShadowFacts:
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


def find_rpmdb() -> str:
    """The place of the packages' database below the root; empty if there is none."""
    for place in RPMDB_PLACES:
        if os.path.isdir(os.path.join("/", place)):
            return place
    return ""


def place_shadow(
    stream: IO[bytes], top: str, removed: Iterable[str], owner: tuple[int, int], *,
    whole: bool,
) -> None:  # fmt: skip
    """Bring the directory `top` to what the controller has: remove, then unpack `stream`.

    An empty `stream` is an archive without members. `owner` is the build user's (uid, gid).
    """
    parent = os.open(os.path.dirname(top) or "/", DIRECTORY_FLAGS)
    try:
        with tree_unpack.below(parent, [os.path.basename(top)]) as here:
            for name in os.listdir(here) if whole else ():
                tree_unpack.remove(here, name)
            for path in removed:
                tree_unpack.remove_below(here, path.split("/"))
            if os.fstat(stream.fileno()).st_size:
                unpacker = Unpacker(
                    replace=True, mode_mask=0o7777, directory_bits=0, owners=((0, 0), owner)
                )
                unpacker.unpack(Reader(stream), here)
    finally:
        os.close(parent)


def _mode(path: str) -> int:
    try:
        return os.lstat(path).st_mode
    except FileNotFoundError:
        return 0


def pack_shadow(stream: IO[bytes], top: str, before: Listing, rpmdb: str) -> None:
    """Write an archive of what is other in `top` than `before`, and of the database at `rpmdb`.

    `rpmdb` is empty when it is not wanted. What vanishes meanwhile is left out.
    """
    now = take_listing(top)
    removed = sorted(path for path in before if path not in now)
    # What is below a directory that is gone needs no mention.
    kept = [path for path in removed if os.path.dirname(path) not in set(removed)]
    archive = Writer(stream)
    archive.file(
        FACTS_NAME, [json.dumps(asdict(ShadowFacts(rpmdb, kept))).encode()], tree_archive.Facts()
    )
    changed = [path for path in now if before.get(path) != now[path]]
    archive.enter("tmpdir", tree_archive.Facts(0o755))
    add_changed(archive, top, changed)
    archive.leave()
    if rpmdb:
        archive.enter("rpmdb", tree_archive.Facts(0o755))
        for name in sorted(os.listdir(f"/{rpmdb}")):
            if stat.S_ISREG(_mode(f"/{rpmdb}/{name}")):
                archive.add(name, f"/{rpmdb}/{name}")
        archive.leave()
    archive.close()


def add_changed(archive: Writer, top: str, changed: Iterable[str]) -> None:
    """Add the paths `changed` below `top` to the archive, with the directories they lie in."""
    wanted = set(changed)
    for path in tuple(wanted):
        while path := os.path.dirname(path):
            wanted.add(path)
    start = len(top.rstrip("/")) + 1
    for path in sorted(path for path in wanted if "/" not in path):
        archive.add(path, os.path.join(top, path), select=lambda full: full[start:] in wanted)
