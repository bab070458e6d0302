# SPDX-License-Identifier: GPL-2.0-or-later
"""Ending what earlier commands left at clouds: a little beside each build, all of it on request."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mock_cloud.cloud.images import STORES, find_image_store
from mock_cloud.cloud.journal import Journal
from mock_cloud.cloud.sweep import Over, Swept, end_due, find_due_leases, sweep_remote
from mock_cloud.config.remotes import list_remotes, load_remote
from mock_cloud.errors import MockCloudError
from mock_cloud.session.console import Console
from mock_cloud.session.unfinished import Unfinished, remove_abandoned
from mock_cloud.settings import Remote

_PATIENCE_S: Final = 5.0
"""How long a command that is done waits for an API's answer; the journal knows what is left."""


@contextmanager
def tidied(state_dir: Path, configdir: Path | None, console: Console) -> Iterator[None]:
    """Beside the block, end leases that are due: only those, and only if there are any.

    No API is asked unless the journal says that something of that remote is due, and one that
    fails costs a warning.
    """
    due = find_due_leases(state_dir)
    if not due:
        yield
        return
    thread = threading.Thread(
        target=_end_all, args=(due, state_dir, configdir, console), name="tidying", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        thread.join(_PATIENCE_S)


def _end_all(
    due: Sequence[Over], state_dir: Path, configdir: Path | None, console: Console
) -> None:
    for name in sorted({one.remote for one in due}):
        try:
            remote = load_remote(name, configdir, to_end=True)
            swept = end_due(remote, state_dir, [one for one in due if one.remote == name])
        except MockCloudError as error:
            console.warning(f"remote {name}: earlier nodes were not ended: {error.message}")
            continue
        for one in swept:
            if one.error is None:
                console.info(f"node {one.lease_id} was ended: {one.reason}")
            else:
                console.warning(f"node {one.lease_id} was not ended: {one.error}")


@dataclass(frozen=True, slots=True)
class Reaped:
    """What a sweep of one remote did. `problem` says why it could not be swept, empty if it was.

    `exit_code` is that problem's own. `images` were left by bakes that died.
    """

    remote: str
    swept: tuple[Swept, ...]
    images: tuple[Unfinished, ...] = ()
    problem: str = ""
    hint: str = ""
    exit_code: int = 0


def reap(
    names: Sequence[str],
    state_dir: Path,
    configdir: Path | None,
    *,
    expired_kin: bool = False,
    dry_run: bool = False,
) -> Iterator[Reaped]:
    """Sweep remotes one after the other, or all there are if none is named.

    One that fails does not keep the others from their turn.
    """
    for name in names or _find_names(state_dir, configdir):
        try:
            remote = load_remote(name, configdir, to_end=True)
            swept = sweep_remote(remote, state_dir, expired_kin=expired_kin, dry_run=dry_run)
            images = _remove_images(remote, state_dir, dry_run=dry_run)
        except MockCloudError as error:
            hint = error.hint or ""
            yield Reaped(name, (), (), error.message, hint, error.exit_code)
        else:
            yield Reaped(name, tuple(swept), tuple(images))
    Journal(state_dir).forget_old()


def _remove_images(remote: Remote, state_dir: Path, *, dry_run: bool) -> Sequence[Unfinished]:
    if remote.provider not in STORES:
        return ()
    return remove_abandoned(state_dir, find_image_store(remote), dry_run=dry_run)


def _find_names(state_dir: Path, configdir: Path | None) -> list[str]:
    """Remotes that have a file, and those that only the journal still knows."""
    journal = Journal(state_dir)
    known = {lease.remote for lease in journal.leases() if lease.owner == journal.owner}
    return sorted(known | {file.name for file in list_remotes(configdir)})
