# SPDX-License-Identifier: GPL-2.0-or-later
"""Bakes that are under way, so that what a killed one left in the cloud is found and removed.

Each bake holds a lock on a file of its own for as long as it lives. The file is made before the
image is, and both bear the bake's id: a file without a holder means an image that nobody wants.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mock_cloud.cloud.images import TAG_BAKE, Image, ImageStore
from mock_cloud.console import Console
from mock_cloud.errors import CloudError, ConfigError
from mock_cloud.wire.dataclass import dataclass

_DIRECTORY: Final = "bakes"


class Bake:
    """One bake that is under way. `image` is the handle of what it makes, once there is one."""

    def __init__(self, identity: str) -> None:
        self.id = identity
        self.image = ""


@contextmanager
def under_way(state_dir: Path, store: ImageStore, console: Console) -> Iterator[Bake]:
    """A bake with an id of its own; if the block raises, its image is removed."""
    bake = Bake(secrets.token_hex(6))
    path = _directory(state_dir) / bake.id
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            yield bake
        except BaseException:  # Ctrl-C too
            for removed in _remove(store, {bake.id}):
                removed.tell(console)
            raise
        path.unlink()
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Unfinished:
    """An image that is nobody's any more; `problem` says why it is still there, if it is."""

    handle: str
    bake: str
    problem: str = ""

    def tell(self, console: Console) -> None:
        if self.problem:
            console.error(f"the unfinished image {self.handle} is still there: {self.problem}")
        else:
            console.info(f"the unfinished image {self.handle} was removed")


def remove_abandoned(
    state_dir: Path, store: ImageStore, *, dry_run: bool = False
) -> Sequence[Unfinished]:
    """Remove the images of bakes that died. CloudError if the cloud can't be asked.

    It is not asked where no bake died. A bake of another remote is left for that remote: its image
    is not in this cloud. `dry_run`: say it only.
    """
    abandoned = {path.name: path for path in _directory(state_dir).iterdir() if not _is_held(path)}
    if not abandoned:
        return ()
    if dry_run:
        return [Unfinished(one.handle, bake) for one, bake in _find(store, set(abandoned))]
    removed = _remove(store, set(abandoned))
    for one in removed:
        if not one.problem:
            abandoned[one.bake].unlink(missing_ok=True)
    return removed


def _find(store: ImageStore, bakes: set[str]) -> Iterator[tuple[Image, str]]:
    for image in store.list():
        bake = image.tags.get(TAG_BAKE, "")
        if bake in bakes:
            yield image, bake


def _remove(store: ImageStore, bakes: set[str]) -> list[Unfinished]:
    """Delete the unfinished images of `bakes`."""
    removed = []
    for image, bake in _find(store, bakes):
        problem = ""
        try:
            store.delete(image.handle)
        except CloudError as error:
            problem = error.message
        removed.append(Unfinished(image.handle, bake, problem))
    return removed


def _is_held(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _directory(state_dir: Path) -> Path:
    path = state_dir / _DIRECTORY
    try:
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot use {path}: {error.strerror}") from error
    return path
