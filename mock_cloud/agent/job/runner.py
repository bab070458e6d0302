# SPDX-License-Identifier: GPL-2.0-or-later
"""Starts jobs. A job outlives the process that started it.

A job's first process is init of a pid namespace of its own, with mount, ipc and uts
namespaces beside it: when it ends, the kernel ends everything the job started and drops
everything it mounted.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import Final, NoReturn

from mock_cloud.agent.engine import input as job_input
from mock_cloud.agent.job import init
from mock_cloud.agent.job.running import find_pid, job_dir, start_time
from mock_cloud.wire import syscalls
from mock_cloud.wire.decode import Malformed
from mock_cloud.wire.files import replace_file
from mock_cloud.wire.job_request import JobRequest, parse_request
from mock_cloud.wire.replies import Status, write_status

_NAMESPACES: Final = syscalls.CLONE_NEWPID | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS


class RunnerError(Exception):
    """A job could not be started; the message says why."""


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
        replace_file(os.path.join(directory, "pid"), f"{first} {start_time(first)}\n".encode())
        code = 0
    except OSError as error:
        code = error.errno or 1
    finally:
        os._exit(min(code, 255))


def _find_mounts(directory: str) -> int | None:
    """A descriptor of the mount namespace of the job of `directory`; None if it does not run."""
    pid = find_pid(directory)
    if pid is None:
        return None
    try:
        namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):  # it is ending, or has just ended
        return None
    # If it lives now it did then, and its number was no other process's.
    return namespace if find_pid(directory) == pid else None


def _drop_descriptors() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            with contextlib.suppress(OSError):  # the listing's own descriptor is gone by now
                os.close(int(name))
