# SPDX-License-Identifier: GPL-2.0-or-later
"""Archives that a node made: hostile input, unpacked into a new directory and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mock_cloud.errors import ResultError
from mock_cloud.file_owner import as_owner
from mock_cloud.results.disk import check_space, translate
from mock_cloud.wire import tree_unpack
from mock_cloud.wire.terminal_text import printable
from mock_cloud.wire.tree_archive import Reader, TreeError
from mock_cloud.wire.tree_unpack import DIRECTORY_FLAGS, Unpacker

_MEMBERS_BETWEEN_LOOKS: Final = 1000


@contextmanager
def open_archive(path: Path, what: str = "archive") -> Iterator[Reader]:
    """A node's archive. ResultError, now or while it is read, if it is none; it says `what`."""
    try:
        with path.open("rb") as stream:
            yield Reader(stream)
    except TreeError as error:
        raise ResultError(f"the node's {what} is refused: {error}") from error


@contextmanager
def open_result_directory(path: Path) -> Iterator[int]:
    """A descriptor of a directory, which may not be a link."""
    descriptor = os.open(path, DIRECTORY_FLAGS)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def space_watch(directory: Path) -> Callable[[], None]:
    """What to call for each member: LocalDiskFull once they have used up the disk.

    Contents are bounded by the archive's size, for which there was room. Empty files and
    directories are not.
    """
    count = 0

    def look() -> None:
        nonlocal count
        count += 1
        if count % _MEMBERS_BETWEEN_LOOKS == 0:
            check_space(directory, 0)

    return look


def stays_inside(place: Sequence[str], target: str) -> bool:
    """Whether a link leads to nothing outside, whatever other such links are on its way.

    Steps up come first: from a real directory they lead to real ones. Then it goes down only.
    `place` are the names from the top down to the link's own.
    """
    words = target.split("/")
    ups = 0
    while ups < len(words) and words[ups] == "..":
        ups += 1
    downs = [word for word in words[ups:] if word not in ("", ".")]
    return bool(target) and target[0] != "/" and ups < len(place) and ".." not in downs


@as_owner()
def unpack_archive(archive: Path, directory: Path) -> None:
    """Unpack `archive` into `directory`, which is made.

    Directories, files and links, all the caller's, without set-id bits; a link may say anything,
    since nothing follows it. ResultError.
    """
    try:
        directory.mkdir(mode=0o700)
        with open_archive(archive) as reader, open_result_directory(directory) as descriptor:
            Unpacker(on_member=space_watch(directory)).unpack(reader, descriptor)
    except FileExistsError as error:
        name = printable(str(error.filename))
        raise ResultError(f"the node's archive has a name twice: {name}") from error
    except OSError as error:
        raise translate(error, directory) from error


@as_owner()
def unpack_into(archive: Path, name: str) -> None:
    """Unpack `archive` into the directory `name` beside it, which may be there, and remove it.

    Files that are there already are replaced, links too. ResultError.
    """
    unpacker = Unpacker(replace=True, on_member=space_watch(archive.parent))
    try:
        with (
            open_archive(archive) as reader,
            open_result_directory(archive.parent) as parent,
            tree_unpack.below(parent, [name]) as directory,
        ):
            unpacker.unpack(reader, directory)
        archive.unlink()
    except OSError as error:
        raise translate(error, archive.parent / name) from error
