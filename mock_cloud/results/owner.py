# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose results are: the user's who called sudo, as mock's are, though root writes them.

Only what was made here is given away, by its descriptor: never what somebody else put there.
"""

from __future__ import annotations

import grp
import os
from pathlib import Path


def find_owner() -> tuple[int, int] | None:
    """(uid, gid) of the user that sudo or consolehelper acts for; None where it is this process's.

    The group is mock's, as in mock (setup_uid_manager in its uid.py), or else the user's own.
    """
    if os.geteuid() != 0:
        return None
    for name in ("USERHELPER_UID", "SUDO_UID"):
        text = os.environ.get(name, "")
        if text.isdecimal() and int(text):
            return int(text), _group()
    return None


def _group() -> int:
    try:
        return grp.getgrnam("mock").gr_gid
    except KeyError:
        text = os.environ.get("SUDO_GID", "")
        return int(text) if text.isdecimal() else -1  # -1: as it is


def give_to_owner(descriptor: int) -> None:
    """Give the file or directory of `descriptor`, made just now, to its owner. OSError."""
    owner = find_owner()
    if owner is not None:
        os.fchown(descriptor, *owner)


def give_tree(path: Path) -> None:
    """Give `path` and what is below to its owner. Nobody else may write to where it is. OSError."""
    owner = find_owner()
    if owner is None:
        return
    os.lchown(path, *owner)
    if path.is_dir() and not path.is_symlink():
        for inside in path.iterdir():
            give_tree(inside)


def make_directory(path: Path, mode: int = 0o777) -> None:
    """Make `path` for the owner; one that is there stays as it is. OSError."""
    try:
        path.mkdir(mode)
    except FileExistsError:
        if not path.is_dir():
            raise
        return
    give_directory(path)


def give_directory(path: Path) -> None:
    """Give the directory `path`, which was made just now and is empty, to its owner. OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        # Whoever may write to the directory above could have put another one in its place.
        is_empty = not os.listdir(descriptor)  # noqa: PTH208  no path: this very directory
        if os.fstat(descriptor).st_uid == os.geteuid() and is_empty:
            give_to_owner(descriptor)
    finally:
        os.close(descriptor)


def make_directories(path: Path) -> None:
    """Make `path` and those above it that are missing, each for the owner. OSError."""
    if not path.parent.is_dir():
        make_directories(path.parent)
    make_directory(path)


def create(path: Path, flags: int, mode: int = 0o666) -> int:
    """A descriptor of the file `path`: a new one is the owner's. OSError.

    `flags` are those of open(2); O_CREAT and O_CLOEXEC are added.
    """
    flags |= os.O_CREAT | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags | os.O_EXCL, mode)
    except FileExistsError:
        if flags & os.O_EXCL:
            raise
        return os.open(path, flags, mode)
    try:
        give_to_owner(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
