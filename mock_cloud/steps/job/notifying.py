# SPDX-License-Identifier: GPL-2.0-or-later
"""The user's own command that is run when a build in the background has ended."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from mock_cloud.cloud.jobs import JobPhase, JobRecord
from mock_cloud.cloud.journal import Journal
from mock_cloud.console import Console
from mock_cloud.errors import MockCloudError
from mock_cloud.exit_status import Stopped
from mock_cloud.places import state_dir
from mock_cloud.process import CommandFailed, run
from mock_cloud.settings import NOTIFY_WORDS, Remote

_TIMEOUT_S: Final = 30.0
_WORD: Final = re.compile(r"\{(\w+)\}")
_DESKTOP: Final = ("DISPLAY", "WAYLAND_DISPLAY", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS")


@contextmanager
def notifying(job: str, remote: Remote, console: Console) -> Iterator[None]:
    """After the block, if the job has ended in it, run [notify] command of `remote`.

    An empty `job` is none that anybody waits for. What the command does wrong costs a warning.
    """
    if not job or not remote.notify.command:
        yield
        return
    try:
        yield
    except (MockCloudError, Stopped):
        _notify(job, remote, console)
        raise
    _notify(job, remote, console)


def _notify(name: str, remote: Remote, console: Console) -> None:
    try:
        job = Journal(state_dir()).find_job(name)
        if job is not None and job.state is JobPhase.ENDED:
            extra = {one: os.environ[one] for one in _DESKTOP if one in os.environ}
            run(fill_in(remote.notify.command, job), timeout_s=_TIMEOUT_S, extra_env=extra)
    except CommandFailed as error:
        console.warning(f"[notify] command: {error.message}")
    except MockCloudError as error:
        console.warning(error.message)


def fill_in(command: tuple[str, ...], job: JobRecord) -> list[str]:
    """The command with the words of NOTIFY_WORDS: each stays within its own word."""
    state = "succeeded" if job.exit == 0 else "failed"
    code = "none" if job.exit is None else str(job.exit)
    values = dict(zip(NOTIFY_WORDS, (job.id, state, code, job.resultdir), strict=True))
    return [_WORD.sub(lambda found: values[found[1]], word) for word in command]
