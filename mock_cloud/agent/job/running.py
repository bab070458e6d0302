# SPDX-License-Identifier: GPL-2.0-or-later
"""A job that was started: whether it runs, how it is stopped, and what is typed into it.

The agent asks for these; starting a job brings the engines along, which it does without.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from enum import Enum
from typing import Final

from mock_cloud.agent.engine import input as job_input
from mock_cloud.wire.decode import Malformed
from mock_cloud.wire.replies import KEEP_CHROOT, read_status

GRACE_S: Final = 2.0
"""What a job has between SIGTERM and SIGKILL."""

_JOB_ID: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
_INPUT_TIMEOUT_S: Final = 5.0
_CANCEL_TIMEOUT_S: Final = 10.0


class JobState(Enum):
    """`VANISHED`: it neither runs nor said how it ended; the node is at fault."""

    RUNNING = "running"
    FINISHED = "finished"
    VANISHED = "vanished"


def job_dir(workspace: str, job_id: str) -> str:
    """The job's directory. Malformed unless `job_id` is 1 to 64 of ``[A-Za-z0-9._-]``."""
    if not _JOB_ID.fullmatch(job_id):
        raise Malformed(f"job id {job_id!r} is not a plain name")
    return os.path.join(workspace, "jobs", job_id)


def state(workspace: str, job_id: str) -> JobState:
    """Whether the job runs, ended by itself, or vanished. FileNotFoundError if there is none."""
    directory = job_dir(workspace, job_id)
    os.stat(directory)
    alive = find_pid(directory) is not None  # first: a job ends between the two looks
    status = read_status(directory)
    if status is not None and status.exit is not None:
        return JobState.FINISHED
    return JobState.RUNNING if alive else JobState.VANISHED


def cancel(workspace: str, job_id: str, *, keep_chroot: bool = False) -> bool:
    """Stop the job: SIGTERM, about 2 s of grace, SIGKILL. Idempotent.

    `keep_chroot`: whatever the configuration says of cleaning up after a failure, as mock does
    when a signal other than Ctrl-C's ends it.

    True when nothing of it is left. The namespace's init is gone only after the kernel has
    ended and reaped every process in it, and its mounts go with the last of them.
    """
    directory = job_dir(workspace, job_id)
    pid = find_pid(directory)
    if pid is None:
        return True
    if keep_chroot:
        with open(os.path.join(directory, KEEP_CHROOT), "w", encoding="ascii"):
            pass
    deadline = time.monotonic() + _CANCEL_TIMEOUT_S
    kill_at = time.monotonic() + GRACE_S + 1.0
    _signal(pid, signal.SIGTERM)
    while time.monotonic() < deadline:
        if find_pid(directory) is None:
            return True
        if time.monotonic() > kill_at:
            _signal(pid, signal.SIGKILL)
        time.sleep(0.02)
    return False


def write_input(workspace: str, job_id: str, data: bytes, *, eof: bool = False) -> None:
    """Bytes for the job's terminal or standard input. Raises as `input.send_data` does."""
    directory = job_dir(workspace, job_id)
    job_input.send_data(directory, data, eof=eof, timeout_s=_INPUT_TIMEOUT_S)


def resize(workspace: str, job_id: str, rows: int, columns: int) -> None:
    """The user's terminal has a new size. Raises as `input.send_data` does."""
    directory = job_dir(workspace, job_id)
    job_input.send_resize(directory, rows, columns, timeout_s=_INPUT_TIMEOUT_S)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def find_pid(directory: str) -> int | None:
    """The pid of the job's init while it lives; the start time guards against reuse."""
    try:
        with open(os.path.join(directory, "pid"), encoding="ascii") as stream:
            pid, started = (int(word) for word in stream.read().split())
        return pid if start_time(pid) == started != -1 else None
    except (FileNotFoundError, ProcessLookupError):
        return None


def start_time(pid: int) -> int:
    """Field 22 of /proc/PID/stat, in clock ticks since boot (proc(5)); -1 for a zombie."""
    with open(f"/proc/{pid}/stat", "rb") as stream:
        fields = stream.read().rpartition(b")")[2].split()
    return -1 if fields[0] == b"Z" else int(fields[19])
