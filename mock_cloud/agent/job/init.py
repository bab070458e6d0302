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
from mock_cloud.agent.job.running import GRACE_S
from mock_cloud.wire import syscalls
from mock_cloud.wire.job_request import LIVE_LOGS, JobRequest
from mock_cloud.wire.layout import MOCK_CACHEDIR, MOCK_LIBDIR
from mock_cloud.wire.memory_group import MemoryGroup, open_group
from mock_cloud.wire.replies import SILENT, Cause, Status, write_status

_OOM_SCORE: Final = "-500"
_EXIT_CANCELLED: Final = 7
_EXIT_TIMEOUT: Final = 11
_EXIT_INFRASTRUCTURE: Final = 75
_LOOK_S: Final = 60.0
_COMMAND_MAX: Final = 100
_COMMANDS_MAX: Final = 5
_TIMEOUT_GRACE_S: Final = 60.0
"""As after `rpmbuild_timeout` the engine cleans up, and measures what stays."""


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
    group: MemoryGroup | None = None
    try:
        if mounts is not None:  # a copy of them: they stay when the other job ends
            syscalls.enter_namespace(mounts, syscalls.CLONE_NEWNS)
            os.close(mounts)
        # Only here: the process that forked us still looks into the /proc of the node.
        syscalls.unshare(syscalls.CLONE_NEWNS)
        syscalls.make_mounts_private()
        syscalls.mount(
            "proc",
            "/proc",
            "proc",
            syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC,
        )
        group = open_group(job_id)  # in a job beside another, /proc was that one's until now
        confine(workspace)
    except OSError as error:
        return _failed(f"the job's mounts could not be made private: {error}")
    _protect_from_oom()
    memory = _Memory(group)
    reader, writer = os.pipe()
    wake_reader, wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    engine = os.fork()
    if engine == 0:
        os.close(reader)
        memory.enter()
        _run_engine(writer, workspace, job_id, directory, request)
    os.close(writer)
    signal.set_wakeup_fd(wake_writer)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    cancelled, code = _wait(engine, wake_reader, _Output(directory, request))
    _end_all()
    report = _read_all(reader)
    return _judge(
        report, code, cancelled=cancelled, memory=memory.find_cause(), silent=_silence(directory)
    )


def _run_engine(
    writer: int, workspace: str, job_id: str, directory: str, request: JobRequest
) -> NoReturn:
    try:
        processes.declare_own_pid_namespace()
        outcome = perform_request(workspace, job_id, directory, request)
        os.write(writer, json.dumps(asdict(outcome)).encode())
    finally:
        os._exit(0)


class _Output:
    """What a job has printed: its terminal and the logs that grow."""

    def __init__(self, directory: str, request: JobRequest) -> None:
        self._directory = directory
        # A user at a shell may think.
        self._limit_s = 0 if request.mode == "shell" else request.output_timeout_s
        self._seen = self._look()
        self._grew_at = time.monotonic()

    def left_s(self) -> float:
        """How long it may print nothing from now on: 0 or less once that is over."""
        if not self._limit_s:
            return float("inf")
        seen, now = self._look(), time.monotonic()
        if seen != self._seen:
            self._seen, self._grew_at = seen, now
        return self._grew_at + self._limit_s - now

    def give_up(self) -> None:
        """Say why the job ends, for the engine and for the final status."""
        ran = _list_waited_for()
        with open(os.path.join(self._directory, SILENT), "w", encoding="utf-8") as stream:
            stream.write(f"nothing was printed for {self._limit_s} s: Timeout expired{ran}")

    def _look(self) -> list[tuple[str, int, int]]:
        results = os.path.join(self._directory, "results")
        found = []
        with contextlib.suppress(OSError):
            places = [results, *(one.path for one in os.scandir(results) if one.is_dir())]
            paths = [os.path.join(place, name) for place in places for name in LIVE_LOGS]
            for path in [os.path.join(self._directory, "terminal"), *paths]:
                with contextlib.suppress(OSError):
                    facts = os.lstat(path)
                    found.append((path, facts.st_size, facts.st_mtime_ns))
        return found


def _list_waited_for() -> str:
    """What the job's processes without children run, for a message: the others wait for these."""
    parents, found = {1}, {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):  # it may end meanwhile
            with open(f"/proc/{name}/stat", "rb") as stream:
                parents.add(int(stream.read().rpartition(b")")[2].split()[1]))  # proc(5): ppid
            with open(f"/proc/{name}/cmdline", "rb") as stream:
                found[int(name)] = stream.read(_COMMAND_MAX).replace(b"\0", b" ").strip()
    words = [found[pid] for pid in sorted(found) if pid not in parents and found[pid]]
    text = b", ".join(words[:_COMMANDS_MAX]).decode("utf-8", "replace")
    shown = "".join(one if one.isprintable() else "?" for one in text)
    return f"; what ran: {shown}" if shown else ""


def _silence(directory: str) -> str:
    """Why the job was ended, if it was silent for too long; else empty."""
    with (
        contextlib.suppress(OSError),
        open(os.path.join(directory, SILENT), encoding="utf-8") as stream,
    ):
        return stream.read()
    return ""


def _wait(engine: int, wake: int, output: _Output) -> tuple[bool, int]:
    """(cancelled, exit code or minus the signal of the engine), reaping orphans meanwhile."""
    cancelled, silent, kill_at = False, False, float("inf")
    while True:
        code = _reap(engine)
        if code is not None:
            return cancelled, code
        now = time.monotonic()
        left_s = _LOOK_S if cancelled or silent else output.left_s()
        if left_s <= 0:
            silent, kill_at = True, now + _TIMEOUT_GRACE_S
            output.give_up()
            os.kill(engine, signal.SIGTERM)
            continue
        ready, _, _ = select.select([wake], [], [], min(max(0.0, kill_at - now), left_s, _LOOK_S))
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


def _judge(report: bytes, code: int, *, cancelled: bool, memory: Cause, silent: str) -> Status:
    outcome = Status(**json.loads(report)) if report else None
    if cancelled:
        kept = outcome or Status("done")
        return replace(kept, phase="done", exit=_EXIT_CANCELLED, message="cancelled")
    if silent and (outcome is None or outcome.exit):
        kept = outcome or Status("done", _EXIT_TIMEOUT, silent)
        return replace(kept, cause=Cause.SILENCE.value)
    if outcome is None:
        how = f"signal {-code}" if code < 0 else f"status {code}"
        why = {
            Cause.MEMORY: "out of memory",
            Cause.MEMORY_GUESS: f"the engine ended with {how}, perhaps for lack of memory",
        }.get(memory, f"the engine ended with {how}")
        return replace(_failed(f"{why}: the job was not finished"), cause=memory.value)
    if outcome.exit and memory is not Cause.NONE:
        words = {
            Cause.MEMORY: "out of memory on the node",
            Cause.MEMORY_GUESS: "perhaps out of memory on the node",
        }[memory]
        return replace(outcome, message=f"{words}: {outcome.message}", cause=memory.value)
    return outcome


def _failed(message: str) -> Status:
    return Status("done", _EXIT_INFRASTRUCTURE, message)


def _read_all(descriptor: int) -> bytes:
    parts = []
    while part := os.read(descriptor, 65536):
        parts.append(part)
    os.close(descriptor)
    return b"".join(parts)


class _Memory:
    """Whether the kernel killed any process of the job for lack of memory.

    Without a group of the job's own nobody knows whose they were: then it is a guess.
    """

    def __init__(self, group: MemoryGroup | None) -> None:
        self._group = group
        self._before = _oom_kills()

    def enter(self) -> None:
        """Called by the engine's process, before it does anything else."""
        if self._group is not None:
            with contextlib.suppress(OSError):
                self._group.enter()
            self._group.forget()

    def find_cause(self) -> Cause:
        """Called once nothing of the job runs any more."""
        kills = None
        if self._group is not None:
            kills = self._group.kills()
            self._group.close()
        if kills is None:
            return Cause.MEMORY_GUESS if _oom_kills() > self._before else Cause.NONE
        return Cause.MEMORY if kills else Cause.NONE


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
_WRITABLE: Final = (MOCK_LIBDIR, MOCK_CACHEDIR)
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
