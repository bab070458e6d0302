# SPDX-License-Identifier: GPL-2.0-or-later
"""Frames on their way out of one channel, in the order they were posted.

A thread of its own sends them. So an interrupt never cuts a frame in two, and a peer that
takes nothing stops the thread that sends, not the ones that notice.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

import paramiko

OUTBOX_MAX_BYTES: Final = 2 << 20
"""More than this does not wait in an outbox: posting blocks instead."""

_PIECE_BYTES: Final = 32704
# What paramiko puts into one packet for OpenSSH's 32 KiB maximum. Larger pieces are cut to
# this size by copying all that is left, each time.
_WAKE_S: Final = 0.5
_FRAME_S: Final = 300.0
"""How long one frame of at most 2 MiB may take: 7 KB/s."""


class TooSlow(OSError):
    """The peer takes next to nothing, though it may say a lot."""


class Outbox:
    """Owns the sending half of `channel`. `failed` is called once when sending fails."""

    def __init__(
        self,
        channel: paramiko.Channel,
        *,
        failed: Callable[[Exception], None],
        idle: Callable[[], bytes | None],
        idle_s: float,
        space: threading.Event,
    ) -> None:
        self._channel = channel
        self._failed = failed
        self._idle = idle
        self._idle_s = idle_s
        self._space = space
        self._frames: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self.backlog_bytes = 0
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()

    def post(self, frame: bytes) -> bool:
        """Queue a frame, once there is room for it. False when the outbox is closed."""
        with self._changed:
            while self.backlog_bytes >= OUTBOX_MAX_BYTES and not self._closed:
                self._changed.wait(_WAKE_S)
            if self._closed:
                return False
            self._frames.append(frame)
            self.backlog_bytes += len(frame)
            self._changed.notify_all()
            return True

    def close(self) -> None:
        """Drop what waits and end the thread. The channel must be closed first. Idempotent."""
        self._stop()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _stop(self) -> None:
        with self._changed:
            self._closed = True
            self._frames.clear()
            self.backlog_bytes = 0
            self._changed.notify_all()
        self._space.set()

    def _run(self) -> None:
        try:
            while (frame := self._next()) is not None:
                self._send(frame)
        except (paramiko.SSHException, EOFError, OSError) as error:
            self._stop()
            self._failed(error)

    def _next(self) -> bytes | None:
        idle_at = time.monotonic() + self._idle_s
        with self._changed:
            while not self._frames and not self._closed:
                left_s = idle_at - time.monotonic()
                if left_s <= 0:
                    return self._idle() or b""
                self._changed.wait(left_s)
            return None if self._closed else self._frames.popleft()

    def _send(self, frame: bytes) -> None:
        view = memoryview(frame)
        start = 0
        deadline = time.monotonic() + _FRAME_S
        while start < len(view):
            if time.monotonic() > deadline:
                raise TooSlow(f"the node did not take a frame within {_FRAME_S:g} s")
            try:
                sent = self._channel.send(view[start : start + _PIECE_BYTES])
            except TimeoutError:  # the window is closed; the channel's timeout is short
                if self._closed:
                    return
                continue
            if sent == 0:
                raise EOFError("the channel is closed")
            start += sent
        with self._changed:
            self.backlog_bytes = max(0, self.backlog_bytes - len(frame))
            self._changed.notify_all()
        self._space.set()
