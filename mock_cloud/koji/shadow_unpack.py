# SPDX-License-Identifier: GPL-2.0-or-later
"""Brings a shadow directory to what a node's results/shadow.tree says: hostile input.

Nothing but directories, regular files and links that stay in the shared directory is made. Koji's
builder, which is root, walks there afterwards.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from mock_cloud.results.archive import (
    open_archive,
    open_result_directory,
    space_watch,
    stays_inside,
)
from mock_cloud.results.disk import translate
from mock_cloud.wire import tree_unpack
from mock_cloud.wire.decode import Malformed, load_json
from mock_cloud.wire.files import NAME_MAX_BYTES
from mock_cloud.wire.shadow_tree import FACTS_NAME, RPMDB_PLACES, ShadowFacts
from mock_cloud.wire.tree_archive import (
    DEPTH_MAX,
    Kind,
    Member,
    Reader,
    TreeError,
)
from mock_cloud.wire.tree_unpack import Unpacker

_WHAT: Final = "shadow archive"
_FACTS_MAX_BYTES: Final = 8 << 20
_LEFT_OUT_MAX: Final = 100
_RPMDB_FILES_MAX: Final = 1000
_RPMDB_NAME: Final = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.-]{0,80}")


def unpack_shadow(archive: Path, root: Path, tmpdir: str) -> list[str]:
    """Apply the node's `archive` to `root`; `tmpdir` is the shared directory's path in it.

    Returns the first links that were left out since they lead out of `tmpdir`. ResultError for an
    archive that asks for anything else than it may.
    """
    left_out: list[str] = []

    def keeps_link(place: Sequence[str], target: str) -> bool:
        if stays_inside(place, target):
            return True
        if len(left_out) < _LEFT_OUT_MAX:
            left_out.append("/".join(place))
        return False

    look = space_watch(root)
    unpacker = Unpacker(replace=True, keeps_link=keeps_link, on_member=look)
    try:
        with open_archive(archive, _WHAT) as reader, open_result_directory(root) as top:
            members = _checked(iter(reader))
            facts = _read_facts(reader, members)
            with tree_unpack.below(top, _parts(tmpdir.lstrip("/"))) as shared:
                for path in facts.removed:
                    tree_unpack.remove_below(shared, _parts(path))
                for member in members:
                    if member.kind is Kind.DIRECTORY and member.name == "tmpdir":
                        unpacker.fill(reader, members, shared)
                    elif member.kind is Kind.DIRECTORY and member.name == "rpmdb" and facts.rpmdb:
                        _replace_rpmdb(reader, members, top, facts.rpmdb, unpacker)
                    else:
                        raise TreeError(f"it has {member.name!a} at its top")
    except OSError as error:
        raise translate(error, root) from error
    return left_out


def _checked(members: Iterator[Member]) -> Iterator[Member]:
    """The same, without names that would show as something else in a terminal or a log."""
    for member in members:
        if any(ord(character) < 32 or ord(character) == 127 for character in member.name):
            raise TreeError(f"it has the name {member.name!a}")
        yield member


def _read_facts(reader: Reader, members: Iterator[Member]) -> ShadowFacts:
    member = next(members, None)
    if member is None or member.kind is not Kind.FILE or member.name != FACTS_NAME:
        raise TreeError(f"it does not begin with {FACTS_NAME}")
    text = bytearray()
    for chunk in reader.chunks():
        text += chunk
        if len(text) > _FACTS_MAX_BYTES:
            raise TreeError(f"{FACTS_NAME} is too large")
    try:
        raw: Any = load_json(bytes(text))
    except Malformed as error:
        raise TreeError(f"{FACTS_NAME} is not JSON") from error
    if not isinstance(raw, dict) or raw.keys() != {"rpmdb", "removed"}:
        raise TreeError(f"{FACTS_NAME} has unknown or missing keys")
    removed = raw["removed"]
    if raw["rpmdb"] not in ("", *RPMDB_PLACES):
        raise TreeError(f"{FACTS_NAME} names a strange place for packages")
    if not isinstance(removed, list) or not all(isinstance(path, str) for path in removed):
        raise TreeError(f"{FACTS_NAME} is not what it should be")
    return ShadowFacts(raw["rpmdb"], removed)


def _replace_rpmdb(
    reader: Reader, members: Iterator[Member], top: int, rpmdb: str, unpacker: Unpacker
) -> None:
    """The packages' database, and nothing of what an earlier one left or reading it made."""
    written: set[str] = set()

    def plain() -> Iterator[Member]:
        for member in members:
            if member.kind is not Kind.UP:
                good = member.kind is Kind.FILE and _RPMDB_NAME.fullmatch(member.name)
                if not good or len(written) == _RPMDB_FILES_MAX:
                    raise TreeError(f"it has {member.name!a} in the packages' database")
                written.add(member.name)
            yield member

    with tree_unpack.below(top, rpmdb.split("/")) as directory:
        unpacker.fill(reader, plain(), directory)
        for name in os.listdir(directory):  # noqa: PTH208
            if name not in written:
                tree_unpack.remove(directory, name)
    for other in RPMDB_PLACES:
        if other != rpmdb:
            tree_unpack.remove_below(top, other.split("/"))


def _parts(name: str) -> list[str]:
    """A path of plain names. TreeError."""
    parts = name.split("/")
    if len(parts) > DEPTH_MAX or not all(map(_is_plain, parts)):
        raise TreeError(f"it removes {name[:200]!a}")
    return parts


def _is_plain(name: str) -> bool:
    try:
        length = len(os.fsencode(name))
    except UnicodeEncodeError:  # JSON can say what no file can be called
        return False
    odd = any(ord(character) < 32 or ord(character) == 127 for character in name)
    return 0 < length <= NAME_MAX_BYTES and name not in (".", "..") and not odd
