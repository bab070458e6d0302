# SPDX-License-Identifier: GPL-2.0-or-later
"""Starts, watches and stops jobs. A job outlives the process that started it.

A job's first process is init of a pid namespace of its own, with mount, ipc and uts
namespaces beside it: when it ends, the kernel ends everything the job started and drops
everything it mounted.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from enum import Enum
from typing import Final, NoReturn

from mock_cloud.agent.engine import input as job_input
from mock_cloud.agent.job import init
from mock_cloud.wire import syscalls
from mock_cloud.wire.decode import Malformed
from mock_cloud.wire.files import replace_file
from mock_cloud.wire.job_request import JobRequest, parse_request
from mock_cloud.wire.replies import KEEP_CHROOT, Status, read_status, write_status

_JOB_ID: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
_NAMESPACES: Final = syscalls.CLONE_NEWPID | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS
_INPUT_TIMEOUT_S: Final = 5.0
_CANCEL_TIMEOUT_S: Final = 10.0


class JobState(Enum):
    """`VANISHED`: it neither runs nor said how it ended; the node is at fault."""

    RUNNING = "running"
    FINISHED = "finished"
    VANISHED = "vanished"


class RunnerError(Exception):
    """A job could not be started; the message says why."""


def job_dir(workspace: str, job_id: str) -> str:
    """The job's directory. Malformed unless `job_id` is 1 to 64 of ``[A-Za-z0-9._-]``."""
    if not _JOB_ID.fullmatch(job_id):
        raise Malformed(f"job id {job_id!r} is not a plain name")
    return os.path.join(workspace, "jobs", job_id)


def start(workspace: str, job_id: str, request: bytes) -> None:
    """Start the job that `request` (JSON) describes.

    Call it from a process without other threads: the job is a fork of it. Raises Malformed
    for a bad request or an id that was used before, RunnerError if no namespaces can be had.
    """
    directory = job_dir(workspace, job_id)
    parsed = parse_request(request)
    try:
        os.makedirs(os.path.join(workspace, "jobs"), mode=0o700, exist_ok=True)
        os.mkdir(directory, 0o700)
    except FileExistsError as error:
        raise Malformed(f"job {job_id!r} exists already") from error
    os.mkdir(os.path.join(directory, "results"), 0o755)
    os.mkfifo(os.path.join(directory, job_input.FIFO), 0o600)
    with open(os.path.join(directory, "request.json"), "wb") as stream:
        stream.write(request)
    with open(os.path.join(directory, "terminal"), "wb"):
        pass
    write_status(directory, Status("starting"))
    _detach(workspace, job_id, directory, parsed)


def _detach(workspace: str, job_id: str, directory: str, request: JobRequest) -> None:
    child = os.fork()
    if child == 0:
        _become_job(workspace, job_id, directory, request)
    _, wait_status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(wait_status)
    if code != 0:
        reason = os.strerror(code) if code > 0 else f"signal {-code}"
        raise RunnerError(f"the job's namespaces could not be made: {reason}")


def _become_job(workspace: str, job_id: str, directory: str, request: JobRequest) -> NoReturn:
    """In the first child: leave the caller's session and descriptors, fork the namespace's init.

    The exit status is 0 or the errno of what failed.
    """
    code = 1
    try:
        os.setsid()
        _drop_descriptors()
        signal.set_wakeup_fd(-1)
        # Kept open by the namespace's init, so that no input is lost before a shell takes it.
        os.open(os.path.join(directory, job_input.FIFO), os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        beside = job_dir(workspace, request.beside) if request.beside else ""
        mounts = _find_mounts(beside) if beside else None
        syscalls.unshare(_NAMESPACES)
        first = os.fork()
        if first == 0:
            init.run_first(workspace, job_id, directory, request, mounts)
        replace_file(os.path.join(directory, "pid"), f"{first} {_start_time(first)}\n".encode())
        code = 0
    except OSError as error:
        code = error.errno or 1
    finally:
        os._exit(min(code, 255))


def _find_mounts(directory: str) -> int | None:
    """A descriptor of the mount namespace of the job of `directory`; None if it does not run."""
    pid = _find_pid(directory)
    if pid is None:
        return None
    try:
        namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):  # it is ending, or has just ended
        return None
    # If it lives now it did then, and its number was no other process's.
    return namespace if _find_pid(directory) == pid else None


def _drop_descriptors() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            with contextlib.suppress(OSError):  # the listing's own descriptor is gone by now
                os.close(int(name))


def state(workspace: str, job_id: str) -> JobState:
    """Whether the job runs, ended by itself, or vanished. FileNotFoundError if there is none."""
    directory = job_dir(workspace, job_id)
    os.stat(directory)
    alive = _find_pid(directory) is not None  # first: a job ends between the two looks
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
    pid = _find_pid(directory)
    if pid is None:
        return True
    if keep_chroot:
        with open(os.path.join(directory, KEEP_CHROOT), "w", encoding="ascii"):
            pass
    deadline = time.monotonic() + _CANCEL_TIMEOUT_S
    kill_at = time.monotonic() + init.GRACE_S + 1.0
    _signal(pid, signal.SIGTERM)
    while time.monotonic() < deadline:
        if _find_pid(directory) is None:
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


def _find_pid(directory: str) -> int | None:
    """The pid of the job's init while it lives; the start time guards against reuse."""
    try:
        with open(os.path.join(directory, "pid"), encoding="ascii") as stream:
            pid, started = (int(word) for word in stream.read().split())
        return pid if _start_time(pid) == started != -1 else None
    except (FileNotFoundError, ProcessLookupError):
        return None


def _start_time(pid: int) -> int:
    """Field 22 of /proc/PID/stat, in clock ticks since boot (proc(5)); -1 for a zombie."""
    with open(f"/proc/{pid}/stat", "rb") as stream:
        fields = stream.read().rpartition(b")")[2].split()
    return -1 if fields[0] == b"Z" else int(fields[19])
