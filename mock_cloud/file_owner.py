# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose results are: the user's who called sudo, as mock's are, though root's process writes them.

They are written with that user's rights, as mock does it. What root may not do where the user may,
on a file system without his rights (NFS with root_squash), works, and root's process follows
nothing and replaces nothing that the user could not (decision 0093). Modes are mock's, too,
whatever the caller's umask.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import grp
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mock_cloud.places import caller_uid

FILE_MODE: Final = 0o644
_DIRECTORY_MODE: Final = 0o755


def find_owner() -> tuple[int, int] | None:
    """(uid, gid) of the user that sudo or consolehelper acts for; None where it is this process's.

    The group is mock's, as in mock, or else the user's own.
    """
    uid = caller_uid()
    return None if uid is None else (uid, _group())


def _group() -> int:
    try:
        return grp.getgrnam("mock").gr_gid
    except KeyError:
        text = os.environ.get("SUDO_GID", "")
        return int(text) if text.isdecimal() else -1  # -1: as it is


def owner_uid() -> int:
    """The user id of what is made `as_owner`."""
    owner = find_owner()
    return os.geteuid() if owner is None else owner[0]


@contextlib.contextmanager
def as_owner() -> Iterator[None]:
    """Use files with the rights of the owner of results: what is made is his.

    Of this thread only: setfsuid(2), which takes root's capabilities over files away as well.
    """
    owner = find_owner()
    libc = _libc()
    if owner is None or not hasattr(libc, "setfsuid"):  # macOS: no mock, and none of its users
        yield
        return
    group, user = libc.setfsgid(owner[1]), libc.setfsuid(owner[0])
    try:
        yield
    finally:
        libc.setfsuid(user)
        libc.setfsgid(group)


def may_write(directory: Path) -> bool:
    """Whether the owner of results may make files in `directory`. A file is none."""
    with as_owner():  # access(2) by itself asks for the real user, who is root
        return os.access(f"{directory}/", os.W_OK | os.X_OK, effective_ids=True)


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def create(path: Path, flags: int) -> int:
    """A descriptor of the file `path`: a new one gets FILE_MODE. OSError.

    `flags` are those of open(2); O_CREAT and O_CLOEXEC are added.
    """
    flags |= os.O_CREAT | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags | os.O_EXCL, FILE_MODE)
    except FileExistsError:
        if flags & os.O_EXCL:
            raise
        return os.open(path, flags, FILE_MODE)
    os.fchmod(descriptor, FILE_MODE)
    return descriptor


def make_directories(path: Path) -> None:
    """Make `path` and those above it that are missing, which everybody may read. OSError."""
    if not path.parent.is_dir():
        make_directories(path.parent)
    try:
        path.mkdir()
    except FileExistsError:
        if not path.is_dir():
            raise
        return
    path.chmod(_DIRECTORY_MODE)
