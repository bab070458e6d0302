# SPDX-License-Identifier: GPL-2.0-or-later
"""The timer as a process: detached, one a workspace, told by agents over a Unix socket.

An agent sends a dot for each sign of life of its controller, or an order. What is needed at the
end is imported now: the toolkit may be gone by then.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import time
from types import FrameType
from typing import Final, NoReturn

from mock_cloud.agent.deadman.end_node import end_node
from mock_cloud.agent.deadman.line import BEAT, SOCKET, socket_address
from mock_cloud.wire.decode import decode_bytes
from mock_cloud.wire.layout import DEADMAN
from mock_cloud.wire.orders import ORDER_MAX_BYTES, DeadmanOrder


# When a node must end: pure decisions, on seconds of a clock that only the node reads.
# The rule is the journal's (`find_due` in the controller's `cloud.lease`): a node ends when its
# lease expires, even while somebody works on it, and it ends when nobody has been
# heard of for the grace, whether or not a job runs.
class OrderRefused(ValueError):
    """An order is not for this timer; the message says why."""


class Timer:
    """Armed by an order; later orders for the same lease renew or shorten it. `now` in seconds."""

    def __init__(self, order: DeadmanOrder, now: float) -> None:
        self.order = order
        self._ends_at = now + order.life_s
        self._heard_at = now

    def renew(self, order: DeadmanOrder, now: float) -> None:
        """Take a later order. OrderRefused if it is for another lease: this one is not over."""
        if order.lease != self.order.lease:
            raise OrderRefused(
                f"the node is leased as {self.order.lease}, for {self.left_s(now):.0f} s more if"
                " nobody is heard of"
            )
        self.order = order
        self._ends_at = now + order.life_s
        self._heard_at = now

    def hear(self, now: float) -> None:
        """A controller was heard of: the grace starts anew. The end of the lease stays."""
        self._heard_at = now

    def find_due(self, now: float) -> str | None:
        """Why the node must end now; None while it may live."""
        if now >= self._ends_at:
            return "the lease is over"
        if now >= self._heard_at + self.order.grace_s:
            return f"no controller was heard of for {self.order.grace_s} s"
        return None

    def left_s(self, now: float) -> float:
        """Seconds until the node is due if nobody is heard of again."""
        return max(0.0, min(self._ends_at, self._heard_at + self.order.grace_s) - now)


_LOOK_EVERY_S: Final = 1.0
_ORDER_WAIT_S: Final = 30.0
_CONNECTIONS_MAX: Final = 200
_OOM_SCORE: Final = "-1000"  # proc(5): never chosen
_CGROUP: Final = "/sys/fs/cgroup/cgroup.procs"


class _ToldToEnd(Exception):
    """Somebody ended the timer: it ends the node with it, rather than leave it without one."""


def main(workspace: str) -> int:
    """Leave the timer of `workspace` behind; 0 once it listens, or if there is one. OSError.

    It does nothing until an order comes, and goes away if none does.
    """
    directory = os.path.join(workspace, DEADMAN)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    lock = os.open(os.path.join(directory, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # until the timer itself is gone
    except BlockingIOError:
        return 0
    listener = _listen(directory)
    if os.fork() == 0:
        _keep_watch(workspace, listener)
    return 0


def now_s() -> float:
    """Seconds since boot; unlike the monotonic clock's, those that the node slept count."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _listen(directory: str) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(directory, SOCKET))  # a dead one's: the lock is ours
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with socket_address(os.path.dirname(directory)) as address:
        listener.bind(address)
    listener.listen(_CONNECTIONS_MAX)
    listener.setblocking(False)
    return listener


def _keep_watch(workspace: str, listener: socket.socket) -> NoReturn:
    code = 1
    try:
        _detach()
        watch = _Watch(listener)
        reason = watch.wait()
        listener.close()
        if reason and watch.timer is not None:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            end_node(workspace, watch.timer.order.ending, reason)
        code = 0
    finally:
        os._exit(code)


def _detach() -> None:
    """Let go of the process that started us, and be the last that the kernel would end."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    _write("/proc/self/oom_score_adj", _OOM_SCORE)
    # Out of the login's control group, with which systemd or its oomd would end us.
    _write(_CGROUP, "0")


def _write(path: str, text: str) -> None:
    """Where there is no such file, or no right to it, the timer runs as it is."""
    with contextlib.suppress(OSError), open(path, "w", encoding="ascii") as stream:
        stream.write(text)


def _told_to_end(number: int, frame: FrameType | None) -> None:
    raise _ToldToEnd


class _Watch:
    """The timer and those who speak to it."""

    def __init__(self, listener: socket.socket) -> None:
        self.timer: Timer | None = None
        self._listener = listener
        self._agents: set[socket.socket] = set()

    def wait(self) -> str | None:
        """Why the node must end, as soon as it must; None if no order came."""
        give_up_at = now_s() + _ORDER_WAIT_S
        try:
            signal.signal(signal.SIGTERM, _told_to_end)
            while True:
                now = now_s()
                reason = self.timer.find_due(now) if self.timer else None
                if reason or (self.timer is None and now > give_up_at):
                    return reason
                self._listen(_LOOK_EVERY_S if self.timer is None else self.timer.left_s(now))
        except _ToldToEnd:
            return "the timer was told to end"

    def _listen(self, left_s: float) -> None:
        # Not for longer than a look: waiting does not count the time that a node sleeps.
        ready, _, _ = select.select(
            [self._listener, *self._agents], [], [], min(left_s, _LOOK_EVERY_S)
        )
        for one in ready:
            if one is self._listener:
                self._accept()
            elif not self._hear(one):
                self._agents.discard(one)
                one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            agent, _ = self._listener.accept()
            if len(self._agents) >= _CONNECTIONS_MAX:
                agent.close()
                return
            agent.setblocking(False)
            self._agents.add(agent)

    def _hear(self, agent: socket.socket) -> bool:
        """Take one message. Whether there may be more."""
        try:
            message = agent.recv(ORDER_MAX_BYTES)
            if message and message != BEAT:
                agent.send(self._obey(message))
            elif message and self.timer is not None:
                self.timer.hear(now_s())
        except OSError:
            return False
        return bool(message)

    def _obey(self, message: bytes) -> bytes:
        """Take an order; what to answer: nothing but a dot, or why it was refused."""
        now = now_s()
        try:
            order = decode_bytes(DeadmanOrder, message)
            if self.timer is None:
                self.timer = Timer(order, now)
            else:
                self.timer.renew(order, now)
        except ValueError as error:
            return str(error).encode()
        return BEAT
