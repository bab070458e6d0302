# SPDX-License-Identifier: GPL-2.0-or-later
"""The job's inputs where mock's words and configuration name them: inputs/ROLE/NAME."""

from __future__ import annotations

import os
import tarfile
from typing import Final

from mock_cloud.agent.engine.context import Job
from mock_cloud.agent.engine.errors import EngineError
from mock_cloud.agent.engine.mock import places
from mock_cloud.wire.job_request import Input
from mock_cloud.wire.tree_archive import Reader, TreeError
from mock_cloud.wire.tree_unpack import DIRECTORY_FLAGS, Unpacker

ARCHIVES: Final = ("tree", "copyin", "source", "sources")
_TAKEN_ELSEWHERE: Final = ("kit", "content", "tmpdir")
_BLOCK: Final = 1 << 20
_INFRASTRUCTURE: Final = 75


def lay_out(job: Job, directory: str, owner: tuple[int, int]) -> None:
    """Put all inputs but mock itself below `directory`, owned by the build user as at home.

    EngineError (75) for an input that is missing or not what was sent.
    """
    for item in job.request.inputs:
        if item.role in _TAKEN_ELSEWHERE:
            continue
        place = os.path.join(directory, item.role)
        if item.role == "built":
            place = os.path.join(place, item.directory)
        if item.role in ARCHIVES:
            _unpack_tree(job, item, place)
        else:
            job.take_input(item, place)
    for where, _, names in os.walk(directory):
        os.chown(where, *owner)
        for name in names:
            os.chown(os.path.join(where, name), *owner, follow_symlinks=False)


def _unpack_tree(job: Job, item: Input, directory: str) -> None:
    os.makedirs(directory, mode=0o755, exist_ok=True)
    archive = job.take_input(item)
    top = os.open(directory, DIRECTORY_FLAGS)
    try:
        with open(archive, "rb") as stream, job.blobs() as read_blob:
            unpacker = Unpacker(mode_mask=0o7777, directory_bits=0, read_blob=read_blob)
            unpacker.unpack(Reader(stream), top)
    except TreeError as error:
        raise EngineError(f"the input {item.name} is refused: {error}", _INFRASTRUCTURE) from error
    finally:
        os.close(top)
    os.unlink(archive)


def link_earlier(job: Job, owner: tuple[int, int]) -> None:
    """Put what earlier chains built into the local repository, as links: not among the results.

    Where a package is to be built again, nothing may stand in for what it will make.
    """
    built = job.inputs_of("built")
    succeeded = {item.directory for item in built if item.name == "success"}
    wanted = {item.name.replace(".src.rpm", "") for item in job.inputs_of("srpm")}
    for item in built:
        if item.directory in wanted - succeeded:
            continue
        directory = os.path.join(job.results, item.directory)
        os.makedirs(directory, mode=0o755, exist_ok=True)
        os.chown(directory, *owner)
        target = f"{places.INPUTS}/built/{item.directory}/{item.name}"
        os.symlink(target, os.path.join(directory, item.name))


def unpack_kit(job: Job, item: Input, directory: str) -> None:
    """mock's own code, into `directory`. EngineError (75)."""
    path = job.take_input(item, directory)
    unpack_inputs(path, directory)
    os.unlink(path)


def unpack_inputs(archive: str, directory: str) -> None:
    """Directories, files and links of a tar; never outside `directory`. EngineError (75)."""
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                _place(tar, member, directory)
    except (tarfile.TarError, EOFError) as error:
        name = os.path.basename(archive)
        raise EngineError(f"the archive {name} is damaged: {error}", _INFRASTRUCTURE) from error


def _place(tar: tarfile.TarFile, member: tarfile.TarInfo, directory: str) -> None:
    parts = [part for part in member.name.split("/") if part not in ("", ".")]
    target = os.path.join(directory, *parts)
    inside = os.path.realpath(directory)
    parent = os.path.realpath(os.path.dirname(target))
    leaves = ".." in parts or member.name.startswith("/")
    if leaves or (parent != inside and not parent.startswith(inside + "/")):
        raise EngineError(f"{member.name!r} leads out of its archive", _INFRASTRUCTURE)
    if not parts:
        return
    if member.isdir():
        os.makedirs(target, mode=0o755, exist_ok=True)
        return
    os.makedirs(parent, mode=0o755, exist_ok=True)
    if member.issym():
        os.symlink(member.linkname, target)
    elif member.isreg():
        source = tar.extractfile(member)
        assert source is not None  # noqa: S101 (for mypy: a regular member)
        with open(target, "xb") as writer:
            while block := source.read(_BLOCK):
                writer.write(block)
        os.chmod(target, member.mode & 0o777)
        os.utime(target, (member.mtime, member.mtime))
    else:
        raise EngineError(f"{member.name!r} is neither file nor directory", _INFRASTRUCTURE)
