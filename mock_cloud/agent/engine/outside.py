# SPDX-License-Identifier: GPL-2.0-or-later
"""Files of a chroot from outside, where a build may have put links in the way.

Every directory on the way is opened without following links, so nothing of the node itself
can be reached by a name inside the chroot.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from typing import Final

from mock_cloud.agent.engine.errors import PackageError

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_BLOCK: Final = 1 << 20


def list_files(root: str, inside: str) -> list[str]:
    """Sorted names of the regular files in the directory `inside` of the chroot at `root`."""
    with open_chroot_directory(root, inside) as directory, os.scandir(directory) as entries:
        return sorted(entry.name for entry in entries if entry.is_file(follow_symlinks=False))


def open_file(root: str, inside: str) -> int:
    """A descriptor for reading the regular file `inside` of the chroot. PackageError."""
    parent, name = os.path.split(inside)
    with open_chroot_directory(root, parent) as parent_fd:
        descriptor = os.open(name, _FILE, dir_fd=parent_fd)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise PackageError(f"{inside} is not a regular file")
    return descriptor


def copy_file_out(root: str, inside: str, directory: str) -> str:
    """Copy the regular file `inside` of the chroot into `directory`, with its time of change.

    Returns the copy's path. PackageError if it is not a regular file.
    """
    target = os.path.join(directory, os.path.basename(inside))
    source = open_file(root, inside)
    try:
        facts = os.fstat(source)
        output = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            while os.sendfile(output, source, None, _BLOCK):
                pass
            os.utime(output, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        finally:
            os.close(output)
    finally:
        os.close(source)
    return target


def write_chroot_file(root: str, inside: str, data: bytes) -> None:
    """Make or replace the file `inside` of the chroot, root's and with mode 0644. PackageError."""
    parent, name = os.path.split(inside)
    new = f"{name}.mock-cloud"
    with open_chroot_directory(root, parent, make=True) as directory:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new, dir_fd=directory)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with open(os.open(new, flags, 0o644, dir_fd=directory), "wb") as stream:
            stream.write(data)
        os.replace(new, name, src_dir_fd=directory, dst_dir_fd=directory)


@contextlib.contextmanager
def open_chroot_directory(root: str, inside: str, *, make: bool = False) -> Iterator[int]:
    """A descriptor of the directory `inside`, with `make` made if need be. PackageError."""
    descriptor = os.open(root, _DIRECTORY)
    try:
        for part in inside.strip("/").split("/"):
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o755, dir_fd=descriptor)
            below = os.open(part, _DIRECTORY, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    except OSError as error:
        raise PackageError(f"{inside} in the chroot cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)
