# SPDX-License-Identifier: GPL-2.0-or-later
"""One small process per local node: boots it, watches its lease, and ends it.

It is the node's dead-man. It was started in a session of its own, and the node lives no longer
than it does: the kernel kills the node's pid 1 when this process dies. It ends the node
when the lease is released, expired, idle or abandoned for too long, when it is sent SIGTERM, or
when sshd ends. Started as ``python -m mock_cloud.cloud.local.supervisor`` with a plan on
stdin; answers with one line of JSON on stdout once sshd greets or booting failed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Final

from mock_cloud.cloud.clock import ClockSteps
from mock_cloud.cloud.journal import Journal
from mock_cloud.cloud.lease import Holder
from mock_cloud.cloud.local.files import (
    NodeFacts,
    read_tail,
    remove_tree,
    wait_until,
    write_facts,
)
from mock_cloud.cloud.local.init import become_node
from mock_cloud.cloud.local.plan import NodePlan
from mock_cloud.errors import CleanupError, CloudError, MockCloudError
from mock_cloud.process import run
from mock_cloud.wire import syscalls
from mock_cloud.wire.decode import decode_bytes
from mock_cloud.wire.memory_group import sweep_groups

_LOOK_EVERY_S: Final = 1.0
_SIGNALS: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD})
_ENDING: Final = _SIGNALS - {signal.SIGCHLD}
_GREETING_PAUSE_S: Final = 0.01
_KILL_TIMEOUT_S: Final = 30.0
_JOURNAL_PATIENCE_S: Final = 60.0


class NodeEnded(Exception):
    """The node is to end, or has; the text says why."""


class Supervisor:
    """Owns one node from its directory to its removal."""

    def __init__(self, plan: NodePlan) -> None:
        self._plan = plan
        self._dir = plan.node_dir
        self._journal = Journal(Path(plan.state_dir))
        self._init: int | None = None
        self._unusable_since: float | None = None
        self._clock = ClockSteps()
        self._untold_s = 0.0  # of the clock's steps, to the journal

    def boot(self) -> None:
        """Make the node and wait for sshd's greeting. CloudError, CommandFailed, NodeEnded."""
        for name in ("mnt", "disk"):
            (self._dir / name).mkdir(mode=0o700)
        if self._plan.disk_mib:
            self._format_disk()
        self._write_facts()
        self._fork_init()
        self._write_facts()
        self._wait_for_greeting()

    def watch(self) -> str:
        """Why the node must end, as soon as it must."""
        while True:
            reason = self._find_reason()
            if reason is not None:
                return reason
            try:
                self._wait(_LOOK_EVERY_S)
            except NodeEnded as ended:
                return str(ended)

    def end(self) -> None:
        """Kill the node, remove what it had, close its lease. Idempotent."""
        if self._init is not None:
            init, self._init = self._init, None
            os.kill(init, signal.SIGKILL)
            # The kernel lets pid 1 of a namespace be reaped only after all others in it died.
            if not wait_until(lambda: os.waitpid(init, os.WNOHANG)[0] != 0, _KILL_TIMEOUT_S):
                raise CleanupError(
                    f"processes of the local node {self._plan.lease_id} do not die",
                    hint=f"pid {init} is its first; look for uninterruptible I/O",
                )
        sweep_groups()
        remove_tree(self._dir)
        if self._journal.path.exists():
            self._journal.close(self._plan.lease_id)

    def _format_disk(self) -> None:
        image = self._dir / "disk.img"
        with image.open("wb") as stream:
            stream.truncate(self._plan.disk_mib << 20)
        # No journal and lazy tables: the file system lives as long as the node.
        argv = ["mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal"]
        options = "lazy_itable_init=1,nodiscard"
        run([*argv, "-E", options, str(image)], timeout_s=self._plan.boot_timeout_s)

    def _fork_init(self) -> None:
        console = os.open(self._dir / "console.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        go_read, go_write = os.pipe()
        failure_read, failure_write = os.pipe()
        syscalls.unshare(syscalls.CLONE_NEWPID)
        self._init = os.fork()
        if self._init == 0:
            os.close(go_write)
            become_node(self._plan, console, go_read, failure_write)
        syscalls.enter_own_pid_namespace()
        for descriptor in (console, go_read, failure_write):
            os.close(descriptor)
        os.write(go_write, b"\1")
        os.close(go_write)
        with os.fdopen(failure_read, "rb") as stream:
            failure = stream.read()
        if failure:
            raise CloudError(f"a local node could not boot: {failure.decode(errors='replace')}")

    def _write_facts(self) -> None:
        init = Holder.of(self._init) if self._init is not None else None
        write_facts(self._dir, NodeFacts(self._plan.owner, Holder.me(), init))

    def _wait_for_greeting(self) -> None:
        deadline = time.monotonic() + self._plan.boot_timeout_s
        where = (self._plan.address, self._plan.port)
        while time.monotonic() < deadline:
            try:
                with socket.create_connection(where, timeout=_LOOK_EVERY_S) as connection:
                    if connection.recv(8).startswith(b"SSH-2.0-"):
                        return
            except (ConnectionError, TimeoutError):
                pass
            self._wait(_GREETING_PAUSE_S)
        raise CloudError(
            f"sshd of a local node did not greet within {self._plan.boot_timeout_s:g} s",
            hint="its console may say why; else raise [local] boot_timeout_s",
        )

    def _wait(self, seconds: float) -> None:
        info = signal.sigtimedwait(_SIGNALS, seconds)
        if info is not None and info.si_signo in _ENDING:
            raise NodeEnded(signal.Signals(info.si_signo).name)
        if self._init is not None and os.waitpid(self._init, os.WNOHANG)[0]:
            self._init = None
            raise NodeEnded("sshd of the node ended")

    def _find_reason(self) -> str | None:
        if not self._journal.path.exists():
            return "the journal was removed"
        try:
            self._untold_s += self._clock.take_s()
            if self._untold_s:
                self._journal.shift_times(self._plan.lease_id, self._untold_s)
                self._untold_s = 0.0
            reason = self._journal.find_due(self._plan.lease_id)
        except CloudError:  # locked, or no space for a note: that may pass
            now = time.monotonic()
            self._unusable_since = self._unusable_since or now
            patient = now < self._unusable_since + _JOURNAL_PATIENCE_S
            return None if patient else "the journal cannot be used"
        self._unusable_since = None
        return reason


def main() -> int:
    """Supervise the node whose plan is on stdin. The first process returns at once."""
    plan = decode_bytes(NodePlan, sys.stdin.buffer.read(), "plan")
    if os.fork():
        return 0  # so that nobody has to reap the supervisor
    directory = plan.node_dir
    directory.mkdir(mode=0o700, parents=True)
    lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    answer = os.dup(1)
    _detach(directory / "supervisor.log")
    supervisor = Supervisor(plan)
    try:
        try:
            supervisor.boot()
        except (MockCloudError, NodeEnded, OSError) as error:
            _answer(answer, error, read_tail(directory))
            return 1
        _answer(answer, None, "")
        supervisor.watch()
    finally:
        supervisor.end()
    return 0


def _detach(log: Path) -> None:
    """Let go of the descriptors and the directory of the process that started us."""
    os.chdir("/")
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    null = os.open("/dev/null", os.O_RDWR)
    errors = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for target, source in ((0, null), (1, null), (2, errors)):
        os.dup2(source, target)


def _answer(descriptor: int, error: Exception | None, console: str) -> None:
    hint = error.hint if isinstance(error, MockCloudError) else None
    text = {"error": None if error is None else str(error), "hint": hint, "console": console}
    # Who asked may be gone; then the lease has lost its creator, which `watch` notices.
    with contextlib.suppress(BrokenPipeError):
        os.write(descriptor, json.dumps(text).encode())
    os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main())
