# SPDX-License-Identifier: GPL-2.0-or-later
"""The first process of a job's namespaces: reaps, relays a cancel, and has the last word.

The engine runs as its child. Only when everything else in the namespace is gone does it write
the final status, so a status with an exit code means that nothing of the job runs any more.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import signal
import stat
import time
from dataclasses import asdict, replace
from typing import Final, NoReturn

from mock_cloud.agent.engine import processes
from mock_cloud.agent.engine.run import perform_request
from mock_cloud.wire import syscalls
from mock_cloud.wire.job_request import JobRequest
from mock_cloud.wire.replies import Status, write_status

GRACE_S: Final = 2.0
_OOM_SCORE: Final = "-500"
_EXIT_CANCELLED: Final = 7
_EXIT_INFRASTRUCTURE: Final = 75


def run_first(
    workspace: str, job_id: str, directory: str, request: JobRequest, mounts: int | None = None
) -> NoReturn:
    """Be init: never returns, ends with status 0 once the final status stands.

    `mounts` is a descriptor of the mount namespace to start from, by default this process's.
    """
    try:
        if os.getpid() != 1:
            raise RuntimeError("a job's init must be the first process of its pid namespace")
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        outcome = _supervise(workspace, job_id, directory, request, mounts)
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(directory, "input"))
        write_status(directory, outcome)
    finally:
        os._exit(0)


def _supervise(
    workspace: str, job_id: str, directory: str, request: JobRequest, mounts: int | None
) -> Status:
    oom_before = _oom_kills()
    try:
        if mounts is not None:  # a copy of them: they stay when the other job ends
            syscalls.enter_namespace(mounts, syscalls.CLONE_NEWNS)
            os.close(mounts)
        # Only here: whoever forked us still looks into the /proc of the node.
        syscalls.unshare(syscalls.CLONE_NEWNS)
        syscalls.make_mounts_private()
        syscalls.mount(
            "proc",
            "/proc",
            "proc",
            syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC,
        )
        confine(workspace)
    except OSError as error:
        return _failed(f"the job's mounts could not be made private: {error}")
    _protect_from_oom()
    reader, writer = os.pipe()
    wake_reader, wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    engine = os.fork()
    if engine == 0:
        os.close(reader)
        _run_engine(writer, workspace, job_id, directory, request)
    os.close(writer)
    signal.set_wakeup_fd(wake_writer)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    cancelled, code = _wait(engine, wake_reader)
    _end_all()
    report = _read_all(reader)
    return _judge(report, code, cancelled=cancelled, oom=_oom_kills() > oom_before)


def _run_engine(
    writer: int, workspace: str, job_id: str, directory: str, request: JobRequest
) -> NoReturn:
    try:
        processes.declare_own_pid_namespace()
        outcome = perform_request(workspace, job_id, directory, request)
        os.write(writer, json.dumps(asdict(outcome)).encode())
    finally:
        os._exit(0)


def _wait(engine: int, wake: int) -> tuple[bool, int]:
    """(cancelled, exit code or minus the signal of the engine), reaping orphans meanwhile."""
    cancelled, kill_at = False, float("inf")
    while True:
        code = _reap(engine)
        if code is not None:
            return cancelled, code
        ready, _, _ = select.select([wake], [], [], min(max(0.0, kill_at - time.monotonic()), 60.0))
        got = os.read(wake, 512) if ready else b""
        if signal.SIGTERM in got and not cancelled:
            cancelled, kill_at = True, time.monotonic() + GRACE_S
            _signal_all(signal.SIGTERM)
        if time.monotonic() >= kill_at:
            _signal_all(signal.SIGKILL)


def _reap(engine: int) -> int | None:
    code = None
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == engine:
                code = os.waitstatus_to_exitcode(status)
    return code


def _signal_all(number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, number)  # all of this pid namespace but its init


def _end_all() -> None:
    _signal_all(signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def _judge(report: bytes, code: int, *, cancelled: bool, oom: bool) -> Status:
    outcome = Status(**json.loads(report)) if report else None
    if cancelled:
        kept = outcome or Status("done")
        return replace(kept, phase="done", exit=_EXIT_CANCELLED, message="cancelled")
    if outcome is None:
        how = f"signal {-code}" if code < 0 else f"status {code}"
        why = "out of memory" if oom else f"the engine ended with {how}"
        return _failed(f"{why}: the job was not finished")
    if outcome.exit and oom:
        return replace(outcome, message=f"out of memory on the node: {outcome.message}")
    return outcome


def _failed(message: str) -> Status:
    return Status("done", _EXIT_INFRASTRUCTURE, message)


def _read_all(descriptor: int) -> bytes:
    parts = []
    while part := os.read(descriptor, 65536):
        parts.append(part)
    os.close(descriptor)
    return b"".join(parts)


def _oom_kills() -> int:
    """Processes that the kernel killed for memory since boot (/proc/vmstat, Linux 4.13)."""
    with open("/proc/vmstat", "rb") as stream:
        for line in stream:
            if line.startswith(b"oom_kill "):
                return int(line.split()[1])
    return 0


def _protect_from_oom() -> None:
    """When memory runs out, a build's process should go, not what can tell about it."""
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as stream:
            stream.write(_OOM_SCORE)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise


# Keeps a job from changing the node: its root is read-only to everything the job runs.
# dnf, its plugins and package scripts run with root's rights. What they wrote outside the chroot
# would be foreign to the next measurement at best, and a way to stay on the node at worst.
_WRITABLE: Final = ("/var/lib/mock", "/var/cache/mock")
_SCRATCH: Final = ("/tmp", "/var/tmp", "/run", "/var/log", "/var/cache/dnf", "/var/lib/dnf")  # noqa: S108

_RESOLVER_MAX_BYTES: Final = 1 << 16


def confine(workspace: str) -> None:
    """In the job's own mount namespace: only our directories are writable, scratch is private.

    What stands in `_SCRATCH` starts empty and goes with the namespace, but for the way to name
    servers. OSError.
    """
    resolver = _read_resolver()
    for path in (workspace, *_WRITABLE):
        if os.path.isdir(path):
            syscalls.bind_mount(path, path, recursive=True)
    for path in _SCRATCH:
        if os.path.isdir(path) and not os.path.islink(path) and not _holds(path, workspace):
            mode = stat.S_IMODE(os.stat(path).st_mode)
            flags = syscalls.MS_NOSUID | syscalls.MS_NODEV
            syscalls.mount("scratch", path, "tmpfs", flags, f"mode={mode:o}")
    if resolver is not None:
        path, data = resolver
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        with open(path, "wb") as stream:
            stream.write(data)
    syscalls.mount("none", "/", None, syscalls.MS_BIND | syscalls.MS_REMOUNT | syscalls.MS_RDONLY)


def _read_resolver() -> tuple[str, bytes] | None:
    """(path, content) of what /etc/resolv.conf is a link to, if that is about to be covered.

    systemd-resolved and NetworkManager keep it below /run.
    """
    path = os.path.realpath("/etc/resolv.conf")
    if not any(_holds(place, path) for place in _SCRATCH):
        return None
    try:
        with open(path, "rb") as stream:
            return path, stream.read(_RESOLVER_MAX_BYTES)
    except FileNotFoundError:
        return None


def _holds(directory: str, path: str) -> bool:
    return path == directory or path.startswith(directory + "/")
