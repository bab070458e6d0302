# SPDX-License-Identifier: GPL-2.0-or-later
"""What a job made in directories of the caller's, put there: hostile input (decision 0069)."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from mock_cloud.errors import InputError, LocalDiskFull
from mock_cloud.file_owner import as_owner
from mock_cloud.invocation.names import find_name_problem
from mock_cloud.results.archive import open_archive, open_result_directory, space_watch
from mock_cloud.results.disk import check_space, translate
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.tree_archive import Kind, Member, Reader, TreeError
from mock_cloud.wire.tree_unpack import Unpacker

_WHAT: Final = "archive of what was written"


@dataclass(frozen=True, slots=True)
class Returning:
    """A directory here that gets what a job made in its counterpart on the node.

    `packages_only`: new files called *.rpm right in it, and nothing else; else all but what would
    take the place of a directory, or make one in the place of something else.
    """

    path: Path
    packages_only: bool = False


@as_owner()
def put_back(archive: Path, places: Mapping[str, Returning]) -> list[str]:
    """Put each directory of `archive` into the place of its name; returns what was left out.

    Nothing is written before all of it was read. Files and links are replaced, no link is
    followed, nothing is removed. ResultError for what is no such archive, LocalDiskFull; InputError
    where the caller's directory is in the way.
    """
    with open_archive(archive, _WHAT) as reader:
        _check(reader, places)
    left_out: list[str] = []
    with open_archive(archive, _WHAT) as reader:
        members = iter(reader)
        for section in members:
            place = places[section.name]
            try:
                check_space(place.path.parent, archive.stat().st_size)
                place.path.mkdir(exist_ok=True)
                _fill(reader, members, place, left_out)
            except OSError as error:
                full = translate(error, place.path)
                if isinstance(full, LocalDiskFull):
                    raise full from error
                raise InputError(
                    f"what was written on the node cannot be put into {place.path}:"
                    f" {error.strerror}"
                ) from error
    return left_out


def _check(reader: Reader, places: Mapping[str, Returning]) -> None:
    depth, seen = 0, set()
    for member in reader:
        if member.kind is Kind.BLOB:
            raise TreeError(f"the contents of {member.name!a} are not in it")
        if not depth and (
            member.kind is not Kind.DIRECTORY or member.name not in places or member.name in seen
        ):
            raise TreeError(f"nobody asked for {member.name!a}")
        if not depth:
            seen.add(member.name)
        depth += {Kind.DIRECTORY: 1, Kind.UP: -1}.get(member.kind, 0)


def _fill(reader: Reader, members: Iterator[Member], place: Returning, left_out: list[str]) -> None:
    unpacker = Unpacker(replace=True, keeps_directories=True, on_member=space_watch(place.path))
    with open_result_directory(place.path) as descriptor:
        unpacker.fill(reader, _wanted(members, place, left_out), descriptor)


def _wanted(members: Iterator[Member], place: Returning, left_out: list[str]) -> Iterator[Member]:
    """Up to the end of the section, those that are taken: the names of others go to `left_out`."""
    names: list[str] = []
    skipped = 0
    for member in members:
        if member.kind is Kind.UP:
            if skipped:
                skipped -= 1
                continue
            yield member
            if not names:
                return
            names.pop()
        elif skipped or not _is_wanted(place, names, member):
            if not skipped:
                left_out.append("/".join((*names, member.name)))
            skipped += member.kind is Kind.DIRECTORY
        else:
            yield member
            if member.kind is Kind.DIRECTORY:
                names.append(member.name)


def _is_wanted(place: Returning, names: list[str], member: Member) -> bool:
    if place.packages_only:
        is_package = member.kind is Kind.FILE and member.name.endswith(".rpm")
        if names or not is_package or find_name_problem(member.name) is not None:
            return False
        return not os.path.lexists(place.path / member.name)
    try:
        there = os.lstat(place.path.joinpath(*names, member.name)).st_mode
    except FileNotFoundError:
        return True
    return stat.S_ISDIR(there) == (member.kind is Kind.DIRECTORY)
