# SPDX-License-Identifier: GPL-2.0-or-later
"""One agent behind one SSH channel: requests out, answers sorted by id.

Two threads a channel: the outbox sends, the reader receives, sorts and watches. Whoever
asked waits with a deadline on a queue of their own.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import paramiko

from mock_cloud.errors import MockCloudError, RemoteCommandError, ToolkitFailed, TransportError
from mock_cloud.remote.link import WINDOW_MAX_BYTES, Link
from mock_cloud.remote.outbox import Outbox, TooSlow
from mock_cloud.wire.frames import (
    HEADER_MAX,
    FrameCut,
    FrameError,
    FrameHeader,
    encode_frame,
    read_frame,
)
from mock_cloud.wire.terminal_text import clean

_TICK_S: Final = 0.25
_PAUSED_S: Final = 5.0
_INBOX_BYTES: Final = 8 << 20
_HEADER_COST: Final = 32
# Bytes of memory for one of a header's JSON text: an empty list, of two or three, takes 64.
_STDERR_READS: Final = 64
_STDERR_BYTES: Final = 4096
_EXIT_WAIT_S: Final = 3.0
_UNSAID_WAIT_S: Final = 1.0
_PING_ID: Final = 0


class AgentEnded(TransportError):
    """The agent's process ended; `status` is its exit status, -1 if unknown."""

    def __init__(self, message: str, *, status: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class Call:
    """One request's answers, in order. Leave the context to drop the ones still to come."""

    def __init__(self, channel: AgentChannel, request_id: int, operation: str) -> None:
        self._channel = channel
        self.id = request_id
        self.operation = operation
        self._frames: deque[tuple[FrameHeader, bytes, int]] = deque()
        self._deadline: float | None = None
        self._closed = False

    def __enter__(self) -> Call:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.forget(self)
        inbox = self._channel.inbox
        with inbox.changed:
            self._closed = True
            inbox.held_bytes -= sum(cost for _, _, cost in self._frames)
            self._frames.clear()
            inbox.changed.notify_all()

    def next(self, *, within_s: float, idle_s: float | None = None) -> tuple[FrameHeader, bytes]:
        """The next frame, without its id.

        All frames of a call have one deadline, `within_s` seconds after the first of them is
        asked for; with `idle_s` each also has its own. TransportError past a deadline, the
        agent's own error as RemoteCommandError, or what ended the channel.
        """
        now, inbox = time.monotonic(), self._channel.inbox
        self._deadline = now + within_s if self._deadline is None else self._deadline
        until, limit_s = self._deadline, within_s
        if idle_s is not None and now + idle_s < until:
            until, limit_s = now + idle_s, idle_s
        with inbox.changed:
            while not self._frames or now >= until:
                if not self._frames and self._channel.failure is not None:
                    raise self._channel.failure
                if now >= until:
                    where, what = self._channel.address, self.operation
                    raise TransportError(f"{where}: no answer to {what} within {limit_s:g} s")
                inbox.changed.wait(until - now)
                now = time.monotonic()
            header, body, cost = self._frames.popleft()
            inbox.held_bytes -= cost
            inbox.changed.notify_all()
        if "error" in header:
            raise remote_error(self._channel.address, self.operation, header["error"])
        return header, body

    def deliver(self, header: FrameHeader, body: bytes, cost: int) -> None:
        """By the reader: queue a frame; wait for a consumer that lags far behind."""
        inbox = self._channel.inbox
        with inbox.changed:
            while inbox.held_bytes > _INBOX_BYTES and not (self._closed or self._channel.failure):
                inbox.changed.wait()
            if not self._closed:
                self._frames.append((header, body, cost))
                inbox.held_bytes += cost
                inbox.changed.notify_all()


class Inbox:
    """What a channel's frames take in memory until they are asked for, all calls together."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.held_bytes = 0


class AgentChannel:
    """An agent started by `command`. `close` is idempotent and ends both threads.

    With `watch_s` the agent is pinged while nothing else is sent, and the whole link is given
    up when the node has sent nothing for that many seconds. `header_max` bounds the headers of its
    answers, in bytes.
    """

    def __init__(
        self,
        link: Link,
        command: str,
        *,
        watch_s: float | None = None,
        space: threading.Event | None = None,
        header_max: int = HEADER_MAX,
    ) -> None:
        self._link = link
        self._watch_s = watch_s
        self._header_max = header_max
        self.address = link.address
        self.space = space or threading.Event()
        """Set whenever an outbox has sent a frame."""
        self.failure: MockCloudError | None = None
        self._ids = itertools.count(_PING_ID + 1)
        self._calls: dict[int, Call] = {}
        self._dropped: set[int] = set()
        self._posted = 0
        self._lock = threading.Lock()
        self.inbox = Inbox()
        self._stray: MockCloudError | None = None
        self._stderr = b""
        self._channel = link.run(command)
        self._channel.settimeout(_TICK_S)
        self._heard_floor = self._ticked_at = time.monotonic()
        ping = encode_frame({"op": "ping", "id": _PING_ID}) if watch_s else None
        self._outbox = Outbox(
            self._channel,
            failed=self._sending_failed,
            idle=lambda: ping,
            idle_s=min(5.0, watch_s / 4) if watch_s else 60.0,
            space=self.space,
        )
        self._reader = threading.Thread(target=self._read, name="reader", daemon=True)
        self._reader.start()
        link.on_close(self.close)

    @property
    def backlog_bytes(self) -> int:
        return self._outbox.backlog_bytes

    def call(self, operation: str, body: bytes = b"", **keys: Any) -> Call:
        """Post a request; the answers are read from what is returned, in a ``with``."""
        call = Call(self, next(self._ids), operation)
        with self._lock:
            self._calls[call.id] = call
        self._post({"op": operation, "id": call.id, **keys}, body)
        return call

    def ask(
        self, operation: str, body: bytes = b"", *, within_s: float, **keys: Any
    ) -> FrameHeader:
        """One request, one answer without a body; its keys, without ``id``."""
        with self.call(operation, body, **keys) as call:
            header, answer_body = call.next(within_s=within_s)
        if answer_body or header.get("more"):
            raise self.protocol_error(f"the answer to {operation} is longer than expected")
        return header

    def post(self, operation: str, body: bytes = b"", **keys: Any) -> None:
        """A request that is answered only if it fails: see `raise_refusal`."""
        with self._lock:
            self._posted += 1
        self._post({"op": operation, "id": next(self._ids), **keys}, body)

    def refusal(self) -> MockCloudError | None:
        """What the agent said about a posted request, or what ended the channel. Once."""
        refusal, self._stray = self._stray or self.failure, None
        return refusal

    def raise_refusal(self) -> None:
        """Raise what `refusal` returns, if anything."""
        refusal = self.refusal()
        if refusal is not None:
            raise refusal

    def forget(self, call: Call) -> None:
        """Drop the frames of `call` that are still to come."""
        with self._lock:
            if self._calls.pop(call.id, None) is not None:
                self._dropped.add(call.id)

    def protocol_error(self, what: str) -> TransportError:
        return TransportError(
            f"{self.address}: {what}", hint="The agent and this program do not agree."
        )

    def close(self) -> None:
        self._fail(TransportError(f"{self.address}: the channel was closed"))
        self._link.release(self._channel)
        self._outbox.close()
        if threading.current_thread() is not self._reader:
            self._reader.join()

    def _post(self, header: FrameHeader, body: bytes) -> None:
        if not self._outbox.post(encode_frame(header, body)):
            raise self.failure or self._link.lost()

    # The reader's thread

    def _read(self) -> None:
        stream = _Incoming(self._channel, self._tick)
        before = 0
        try:
            while (frame := read_frame(stream, header_max=self._header_max)) is not None:
                size, before = stream.taken_bytes - before, stream.taken_bytes
                header, body = frame
                self._dispatch(header, body, len(body) + _HEADER_COST * (size - len(body)))
            self._ended()
        except FrameCut:
            self._ended()
        except (paramiko.SSHException, EOFError, OSError) as error:
            self._fail(self._link.lost(error))
        except Exception as error:  # the edge: without a reader, whoever waits would wait in vain
            self._fail(self._why_garbled(error))
            self._link.release(self._channel)

    def _ended(self) -> None:
        if self.failure is None:  # else we closed it: there is no status to wait for
            self._fail(self._why_ended())

    def _dispatch(self, header: FrameHeader, body: bytes, cost: int) -> None:
        """Give a frame to its call. FrameError for one that answers nothing."""
        request_id = header.pop("id", None)
        if type(request_id) is not int:
            raise FrameError("a frame has no id")
        is_last = header.get("more") is not True
        with self._lock:
            call = self._calls.get(request_id)
            if call is not None and is_last:
                del self._calls[request_id]
        if call is not None:
            call.deliver(header, body, cost)
        elif request_id in self._dropped:
            if is_last:
                self._dropped.discard(request_id)
        elif request_id != _PING_ID:
            self._take_unwaited(header, is_last)

    def _take_unwaited(self, header: FrameHeader, is_last: bool) -> None:
        """The answer to a request that was only posted. Each has at most one, of one frame."""
        with self._lock:
            self._posted -= 1
            if self._posted < 0 or not is_last:
                raise FrameError("an answer to no request")
        if "error" in header and self._stray is None:
            self._stray = remote_error(self.address, "a request", header["error"])
            self.space.set()

    def _tick(self) -> None:
        """Each quarter of a second without data: drain stderr, look for silence."""
        self._drain_stderr()
        if self._watch_s is None:
            return
        now = time.monotonic()
        if now - self._ticked_at > _PAUSED_S:
            # It was this process that stopped; what the node said meanwhile is still unread.
            self._heard_floor = now
        self._ticked_at = now
        if now - max(self._link.heard_at, self._heard_floor) > self._watch_s:
            self._link.fail_silent(f"the node sent nothing for {self._watch_s:g} s")

    def _drain_stderr(self) -> None:
        for _ in range(_STDERR_READS):  # no more, or a flood of it would keep all else waiting
            if not self._channel.recv_stderr_ready():
                return
            self._stderr = (self._stderr + self._channel.recv_stderr(65536))[-_STDERR_BYTES:]

    def _why_ended(self) -> MockCloudError:
        if not self._link.is_up:
            return self._link.lost()
        status = -1
        if self._channel.status_event.wait(_EXIT_WAIT_S):
            status = self._channel.exit_status
        # Of a connection that is lost paramiko ends the channels first, without a status.
        if self._link.goes_down(_UNSAID_WAIT_S if status == -1 else 0.0):
            return self._link.lost()
        self._drain_stderr()
        said = f": {clean(self._stderr)}" if self._stderr else ""
        return AgentEnded(
            f"{self.address}: the agent ended with status {status}{said}",
            status=status,
            hint="The node may be out of memory, or the toolkit on it damaged.",
        )

    def _why_garbled(self, error: Exception) -> MockCloudError:
        self._drain_stderr()
        said = f"; stderr: {clean(self._stderr)}" if self._stderr else ""
        what = str(error) if isinstance(error, FrameError) else type(error).__name__
        return TransportError(
            f"{self.address}: not an agent's answer: {what}{said}",
            hint="A login shell that prints text would do this: it must be silent.",
        )

    def _sending_failed(self, error: Exception) -> None:
        if isinstance(error, TooSlow):
            self._link.fail(str(error))
        if not self._link.is_up:
            self._fail(self._link.lost(error))

    def _fail(self, error: MockCloudError) -> None:
        with self.inbox.changed:
            self.failure = self.failure or error
            self.inbox.changed.notify_all()
        self.space.set()


class _Incoming:
    """A channel's bytes, for `read_frame`.

    It takes all that paramiko has buffered at a time: taking less makes paramiko move the
    rest, up to a whole window, each time.
    """

    def __init__(self, channel: paramiko.Channel, tick: Callable[[], None]) -> None:
        self._channel = channel
        self._tick = tick
        self._held = memoryview(b"")
        self.taken_bytes = 0
        """How much was read from here."""

    def read(self, size: int, /) -> bytes:
        parts = []
        while size:
            if not self._held:
                data = self._receive()
                if not data:
                    break
                self._held = memoryview(data)
            part, self._held = self._held[:size], self._held[size:]
            parts.append(part)
            size -= len(part)
            self.taken_bytes += len(part)
        return bytes(parts[0]) if len(parts) == 1 else b"".join(parts)

    def _receive(self) -> bytes:
        while True:
            try:
                return bytes(self._channel.recv(WINDOW_MAX_BYTES))
            except TimeoutError:
                self._tick()


def remote_error(address: object, operation: str, raw: Any) -> MockCloudError:
    """The agent's ``error`` object as an exception."""
    if (
        not isinstance(raw, dict)
        or set(raw) != {"code", "message"}
        or not all(isinstance(value, str) for value in raw.values())
    ):
        return TransportError(f"{address}: {operation} failed, with a malformed error")
    # json decodes a lone surrogate, which no UTF-8 has.
    code = clean(raw["code"][:64].encode("utf-8", "backslashreplace"))
    message = clean(raw["message"].encode("utf-8", "backslashreplace"))
    hint = _HINTS.get(code)
    kind = ToolkitFailed if code == "toolkit" else RemoteCommandError
    return kind(f"{address}: {operation}: {message}", code=code, hint=hint)


_HINTS: Final = {
    "no-space": "The node's disk is full: use a larger one, or `mock-cloud release` it.",
    "digest": "The file changed while it was sent, or the node's disk corrupts data.",
    "toolkit": "The toolkit lacks a part, as every node's would: pack it anew, and report it.",
    "no-job": "The job was never started on this node, or its results were taken already.",
}
