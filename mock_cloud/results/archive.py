# SPDX-License-Identifier: GPL-2.0-or-later
"""Unpacks a tar archive that a node made, into an empty directory, and nowhere else.

The filters of PEP 706 would be the tool for it, but Debian 12's Python has none, and they refuse
the absolute links that mock's --copyout keeps.
"""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mock_cloud.errors import ResultError
from mock_cloud.invocation.names import printable
from mock_cloud.results.disk import translate

_MEMBERS_MAX: Final = 1_000_000
_READ_MAX_BYTES: Final = 64 << 20


class _Bounded(io.FileIO):
    """A file of which no more than `_READ_MAX_BYTES` are read at once.

    `tarfile` reads an extended header in one piece, of the size that the archive says.
    """

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= _READ_MAX_BYTES:
            raise ResultError("the node's archive has a header that is too large")
        return super().read(size) or b""


@contextmanager
def open_archive(path: Path) -> Iterator[tarfile.TarFile]:
    """A node's archive, which is not compressed: its size here is what it takes.

    Raises tarfile.TarError, EOFError, OSError; ResultError for headers without measure, then or
    while it is read.
    """
    with _Bounded(path) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
        yield tar


def unpack(archive: Path, directory: Path) -> None:
    """Unpack `archive` into `directory`, which is made.

    Only directories, files and links; no owner, no set-id bits. Links are made last, so nothing is
    ever written through one. ResultError for an archive that asks for more.
    """
    links: list[tuple[Path, str]] = []
    modes: list[tuple[Path, int]] = []
    try:
        directory.mkdir(mode=0o700)
        with open_archive(archive) as tar:
            for count, member in enumerate(tar):
                if count >= _MEMBERS_MAX:
                    raise ResultError("the node's archive has too many members")
                _unpack_member(tar, member, directory, links, modes)
        for path, mode in reversed(modes):
            path.chmod(mode)
        for path, target in links:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(target)
    except (tarfile.TarError, EOFError) as error:
        raise ResultError(f"the node's archive is damaged: {error}") from error
    except FileExistsError as error:
        name = printable(str(error.filename))
        raise ResultError(f"the node's archive has a name twice: {name}") from error
    except OSError as error:
        raise translate(error, directory) from error


def _unpack_member(
    tar: tarfile.TarFile,
    member: tarfile.TarInfo,
    directory: Path,
    links: list[tuple[Path, str]],
    modes: list[tuple[Path, int]],
) -> None:
    path = directory.joinpath(*_parts(member.name))
    if member.isdir():
        path.mkdir(parents=True, exist_ok=True)
        modes.append((path, member.mode & 0o777 | 0o700))
    elif member.issym():
        links.append((path, member.linkname))
    elif member.isreg() or member.islnk():
        path.parent.mkdir(parents=True, exist_ok=True)
        if member.islnk():
            shutil.copyfile(directory.joinpath(*_parts(member.linkname)), path)
        else:
            _write(tar, member, path)
        path.chmod(member.mode & 0o777)
        os.utime(path, (member.mtime, member.mtime))
    else:
        raise ResultError(f"the node's archive has a special file: {printable(member.name)}")


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    source = tar.extractfile(member)
    if source is None:
        raise ResultError(f"the node's archive is damaged: {printable(member.name)}")
    with path.open("xb") as stream:
        shutil.copyfileobj(source, stream, 1 << 20)


def _parts(name: str) -> list[str]:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if not parts or ".." in parts or name.startswith("/") or "\0" in name:
        raise ResultError(f"the node's archive has a name that leads out: {printable(name)}")
    return parts
