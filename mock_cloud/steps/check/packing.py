# SPDX-License-Identifier: GPL-2.0-or-later
"""Files and directories of this machine as inputs of a job: hashed, directories as archives."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from mock_cloud.errors import InputError, MockCloudError
from mock_cloud.invocation.hostfiles import HostFile
from mock_cloud.model import Blob
from mock_cloud.wire.files import digest_of
from mock_cloud.wire.job_request import Input
from mock_cloud.wire.terminal_text import printable
from mock_cloud.wire.tree_archive import Problem, TreeError, Writer

PackedInput = tuple[Input, Blob]
"""What the request says of a file, and what is sent."""

_PART_MIN_BYTES: Final = 64 << 10
"""Sources from this size on travel by themselves; asking for smaller ones would take longer."""


def pack_file(file: HostFile) -> PackedInput:
    """Hash one file. InputError if it cannot be read."""
    try:
        with file.path.open("rb", buffering=0) as stream:
            name, size = digest_of(stream)
    except OSError as error:
        raise InputError(f"cannot read {file.path}: {error.strerror}") from error
    return Input(file.name, file.role, name, size), Blob(name, size, file.path)


@contextlib.contextmanager
def packed_copyin(name: str, files: Iterable[HostFile]) -> Iterator[PackedInput]:
    """The --copyin sources as one archive. Links are followed, as mock's copying does.

    InputError for what cannot be copied: at home mock ends with 1 for it.
    """
    members = [(file.name, file.path) for file in files]
    with _archive(members, follow=True) as (path, problems):
        for problem in problems:
            raise InputError(f"cannot copy {problem.path}: {problem.why}")
        yield pack_file(HostFile(name, "copyin", path))


@contextlib.contextmanager
def packed_tree(tree: HostFile, warnings: list[str]) -> Iterator[PackedInput]:
    """A directory as one archive, in which it has its name on the node. Links stay links.

    What is no file, no directory and no link stays here, and `warnings` says so. InputError.
    """
    with _archive([(tree.name, tree.path)]) as (path, problems):
        _note(problems, warnings)
        yield pack_file(replace(tree, path=path))


@contextlib.contextmanager
def packed_sources(
    sources: HostFile, warnings: list[str], *, follow: bool
) -> Iterator[list[PackedInput]]:
    """What --sources names: an archive of it, or of all that is in it, and its larger files.

    These are inputs of their own, so that a node which has most of them gets the others only.
    `follow` and `warnings` as mock's --symlink-dereference and `packed_tree`. MockCloudError: at
    home mock ends with 1 for what it cannot copy.
    """
    parts: dict[str, PackedInput] = {}

    def find_blob(path: str, found: os.stat_result) -> str | None:
        if found.st_size < _PART_MIN_BYTES:
            return None
        item, blob = pack_file(HostFile("", "content", Path(path)))
        parts[item.digest] = replace(item, name=item.digest), blob
        return item.digest

    is_single = sources.role == "source"
    names = [sources.name] if is_single else sorted(os.listdir(sources.path))  # noqa: PTH208
    members = [(name, sources.path if is_single else sources.path / name) for name in names]
    try:
        with _archive(members, follow=follow or is_single, find_blob=find_blob) as (path, problems):
            _note(problems, warnings)
            yield [pack_file(replace(sources, path=path)), *parts.values()]
    except InputError as error:
        raise MockCloudError(error.message, hint=error.hint) from error


def _note(problems: Iterable[Problem], warnings: list[str]) -> None:
    for problem in problems:
        if not problem.special:
            raise InputError(f"cannot send {problem.path}: {problem.why}")
        warnings.append(f"{printable(problem.path)} is not sent: {problem.why}")


@contextlib.contextmanager
def _archive(
    members: Iterable[tuple[str, Path]],
    *,
    follow: bool = False,
    find_blob: Callable[[str, os.stat_result], str | None] | None = None,
) -> Iterator[tuple[Path, list[Problem]]]:
    """Owners of this machine are others on the node: none are in it. InputError."""
    with tempfile.NamedTemporaryFile(prefix="mock-cloud-", suffix=".tree") as stream:
        archive = Writer(stream, find_blob=find_blob)
        try:
            for name, path in members:
                archive.add(name, str(path), follow=follow)
            archive.close()
        except (TreeError, OSError) as error:
            raise InputError(f"cannot pack {path}: {error}") from error
        yield Path(stream.name), archive.problems
