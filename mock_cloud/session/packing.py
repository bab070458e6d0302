# SPDX-License-Identifier: GPL-2.0-or-later
"""Files and directories of this machine as inputs of a job: hashed, directories as archives."""

from __future__ import annotations

import contextlib
import hashlib
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from mock_cloud.agent.job.request import Input
from mock_cloud.errors import InputError
from mock_cloud.invocation import HostFile
from mock_cloud.remote.upload import Blob

Packed = tuple[Input, Blob]
"""What the request says of a file, and what is sent."""


def pack_file(file: HostFile) -> Packed:
    """Hash one file. InputError if it cannot be read."""
    digest = hashlib.sha256()
    size = 0
    try:
        with file.path.open("rb") as stream:
            while data := stream.read(1 << 20):
                digest.update(data)
                size += len(data)
    except OSError as error:
        raise InputError(f"cannot read {file.path}: {error.strerror}") from error
    name = digest.hexdigest()
    return Input(file.name, file.role, name, size), Blob(name, size, file.path)


@contextlib.contextmanager
def packed_copyin(name: str, files: Iterable[HostFile]) -> Iterator[Packed]:
    """The --copyin sources as one tar. Links are followed, as mock's copying does."""
    with _archive(((file.path, file.name) for file in files), follow=True) as path:
        yield pack_file(HostFile(name, "copyin", path))


@contextlib.contextmanager
def packed_tree(tree: HostFile) -> Iterator[Packed]:
    """A directory as one tar, in which it has its name on the node. Links stay links."""
    with _archive([(tree.path, tree.name)], follow=False) as path:
        yield pack_file(replace(tree, path=path))


@contextlib.contextmanager
def _archive(members: Iterable[tuple[Path, str]], *, follow: bool) -> Iterator[Path]:
    with tempfile.NamedTemporaryFile(prefix="mock-cloud-", suffix=".tar") as stream:
        with tarfile.open(
            fileobj=stream, mode="w", dereference=follow, format=tarfile.PAX_FORMAT
        ) as archive:

            def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
                # Accounts of this machine are others on the node; the same files make the same
                # archive. A file with several names is several files there; what is no file, no
                # directory and no link stays here.
                member.uid = member.gid = 0
                member.uname = member.gname = ""
                archive.inodes.clear()  # type: ignore[attr-defined]
                return member if member.isreg() or member.isdir() or member.issym() else None

            for path, name in members:
                try:
                    archive.add(path, arcname=name, filter=anonymous)
                except OSError as error:
                    raise InputError(f"cannot send {path}: {error}") from error
        stream.flush()
        yield Path(stream.name)
