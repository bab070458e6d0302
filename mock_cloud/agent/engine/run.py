# SPDX-License-Identifier: GPL-2.0-or-later
"""Performs one job from its request to its outcome: the engine's edge.

Every failure becomes an exit code and a message here and nowhere else, and whatever happened,
nothing is left mounted.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import Final

from mock_cloud.agent.engine import modes
from mock_cloud.agent.engine.buildroot import Buildroot
from mock_cloud.agent.engine.context import Job
from mock_cloud.agent.engine.errors import Cancelled, EngineError, NoSpace
from mock_cloud.agent.engine.logs import Logs
from mock_cloud.agent.job.request import JobRequest
from mock_cloud.agent.job.status import Status, write_status
from mock_cloud.agent.job.terminal import TerminalWriter

_MESSAGE_MAX: Final = 4000
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


def perform(workspace: str, job_id: str, directory: str, request: JobRequest) -> Status:
    """Do what `request` asks. Returns the final status, never raises."""
    signal.signal(signal.SIGTERM, _cancel)
    terminal = TerminalWriter(
        os.open(os.path.join(directory, "terminal"), os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    )
    logs = Logs(terminal, request.verbose, show_output=bool(request.pty) and request.verbose > 0)
    logs.on_state = lambda name: write_status(directory, Status(name))
    job = Job(workspace, job_id, directory, request, logs)
    code, message = 1, ""
    buildroot = None
    try:
        with _translated():
            buildroot = Buildroot(job)
            try:
                code = _perform(job, buildroot)
            finally:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the clean-up is short and bounded
                buildroot.close()
    except EngineError as error:
        code, message = error.exit_code, error.message
        logs.error(message)
    except Exception as error:  # the edge: a defect of ours must be reported too
        message = f"internal error: {error!r}"
        logs.error(message)
        logs.debug(traceback.format_exc())
    job.discard_inputs()
    logs.close()
    trees = buildroot.store.present() if buildroot else {}
    kept = [buildroot.chroot.base] if buildroot and buildroot.is_kept else []
    return Status("done", code, message[:_MESSAGE_MAX], trees, kept)


def _perform(job: Job, buildroot: Buildroot) -> int:
    """The mode, then what the controller keeps of the chroot: also after a failed build."""
    try:
        code = modes.perform(job, buildroot)
    except Cancelled:
        raise  # whoever stops a job does not wait for it
    except EngineError:
        buildroot.shadow.finish()
        raise
    buildroot.shadow.finish()
    return code


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """A full disk is no defect, wherever it is met."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            where = error.filename or "the workspace"
            raise NoSpace(f"no-space: the node's disk is full: {where}") from error
        raise


def _cancel(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Cancelled("Exiting on user interrupt")
