# SPDX-License-Identifier: GPL-2.0-or-later
"""Ends leases that earlier commands left at clouds, beside a build."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mock_cloud.cloud.orphans import Orphan, end_due, find_due_leases
from mock_cloud.config.remotes import load_remote
from mock_cloud.console import Console
from mock_cloud.errors import MockCloudError

_PATIENCE_S: Final = 5.0
"""How long a command that is done waits for an API's answer; the journal knows what is left."""


@contextmanager
def cleaned_up(state_dir: Path, configdir: Path | None, console: Console) -> Iterator[None]:
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
    due: Sequence[Orphan], state_dir: Path, configdir: Path | None, console: Console
) -> None:
    for name in sorted({one.remote for one in due}):
        try:
            remote = load_remote(name, configdir, to_end=True)
            swept = end_due(remote, state_dir, [one for one in due if one.remote == name])
        except MockCloudError as error:
            console.warning(f"remote {name}: earlier nodes were not ended: {error.message}")
            continue
        for one in swept:
            one.tell(console.info, console.warning)
