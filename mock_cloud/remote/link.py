# SPDX-License-Identifier: GPL-2.0-or-later
"""One authenticated SSH connection to one node, and the channels opened on it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

import paramiko
from paramiko.buffered_pipe import BufferedPipe

from mock_cloud.errors import ConnectionLost, ForwardingRefused, TransportError
from mock_cloud.model import LOOPBACK, HostKey, NodeAddress
from mock_cloud.remote.wire import Wire

WINDOW_MAX_BYTES: Final = 8 << 20
_WINDOW_MIN_BYTES: Final = 2 << 20
DOWNLOAD_BYTES_PER_S: Final = 300_000_000
"""The rate that windows are made for: together, they hold that much of a round trip."""

OnConnection = Callable[[paramiko.Channel, tuple[str, int], tuple[str, int]], None]

_OPEN_TIMEOUT_S: Final = 90.0
"""Before it answers a first login, sshd waits for systemd to start the user's manager."""
_JOIN_TIMEOUT_S: Final = 5.0
_FREED_S: Final = 5.0
_FREED_EVERY_S: Final = 0.05
_WATCH_TICK_S: Final = 0.25


class Link:
    """Owns the transport. `close` is idempotent and leaves no thread behind.

    paramiko's channels take locks when they are garbage collected, so a reference to each is
    kept until the end. A process must not fork (without exec) while a link is open.
    """

    def __init__(
        self, address: NodeAddress, transport: paramiko.Transport, wire: Wire, rtt_s: float
    ) -> None:
        self.address = address
        self._transport = transport
        self._wire = wire
        self._channels: list[paramiko.Channel] = []
        self._lock = threading.Lock()
        self._failure: str | None = None
        self._closed = False
        self._closers: list[Callable[[], None]] = []
        self.may_be_narrow = False
        """It fell silent, and another one that sends small packets may do."""
        self.host_key = shown_host_key(transport)
        self.rtt_s = rtt_s
        """The shortest round trip so far, of SSH messages."""

    @property
    def heard_at(self) -> float:
        """When the node last sent anything, of the monotonic clock."""
        return self._wire.heard_at

    @property
    def is_up(self) -> bool:
        return self._failure is None and self._transport.is_active()

    def goes_down(self, within_s: float) -> bool:
        """Whether it is down, or is soon."""
        until = time.monotonic() + within_s
        while self.is_up and time.monotonic() < until:
            time.sleep(0.01)
        return not self.is_up

    def run(self, command: str) -> paramiko.Channel:
        """A new session channel that runs `command`.

        TransportError if the node opens no more of them, ConnectionLost.
        """
        deadline = time.monotonic() + _FREED_S
        while True:
            try:
                return self._run(command)
            except paramiko.ChannelException as error:
                # sshd counts one that we have closed for a moment longer (MaxSessions 1).
                with self._lock:
                    has_others = any(not channel.closed for channel in self._channels)
                if has_others or time.monotonic() > deadline or not self.is_up:
                    raise self._no_channel(error) from error
            time.sleep(_FREED_EVERY_S)

    def _run(self, command: str) -> paramiko.Channel:
        try:
            with self._guarded("it opened no channel in time"):
                began = time.monotonic()
                window = window_bytes(self.rtt_s)
                channel = self._transport.open_session(window, timeout=_OPEN_TIMEOUT_S)
                self.rtt_s = min(self.rtt_s, time.monotonic() - began)
                hold_to_window(self, channel, window)
                with self._lock:
                    self._channels.append(channel)
                channel.exec_command(command)
        except (EOFError, OSError) as error:
            # A write failed: the connection is gone, though its reader may not have noticed.
            raise self.lost(error) from error
        except paramiko.ChannelException:
            raise
        except paramiko.SSHException as error:
            raise self._no_channel(error) from error
        return channel

    def _no_channel(self, error: paramiko.SSHException) -> TransportError:
        if not self.is_up:
            return self.lost(error)
        return TransportError(
            f"{self.address}: the node opens no channel: {error}",
            hint="Check MaxSessions in the node's sshd_config.",
        )

    def listen(self, take: OnConnection, port: int = 0) -> int:
        """Have the node's sshd listen on its loopback; the port that it took, or `port`.

        `take` is called by paramiko's thread with the channel of each connection that comes.
        ForwardingRefused if sshd does not do so, ConnectionLost.
        """
        try:
            with self._guarded("it forwarded no port in time"):
                port = self._transport.request_port_forward(LOOPBACK, port, take)
        except (EOFError, OSError) as error:
            raise self.lost(error) from error
        except paramiko.SSHException as error:
            if self.is_up:
                raise ForwardingRefused(
                    f"{self.address}: the node's sshd forwards no port",
                    hint="say AllowTcpForwarding yes (or remote) and DisableForwarding no in its"
                    " sshd_config, or serve the repositories where the node reaches them",
                ) from error
            raise self.lost(error) from error
        if not 0 < port < 1 << 16:
            raise TransportError(f"{self.address}: the node's sshd forwards no such port: {port}")
        return int(port)

    def unlisten(self, port: int) -> None:
        """End what `listen` began; the node has no such port any more when this returns.

        A connection that is gone has taken it along.
        """
        with (
            contextlib.suppress(paramiko.SSHException, EOFError, OSError),
            self._guarded("it did not stop forwarding in time"),
        ):
            self._transport.cancel_port_forward(LOOPBACK, port)

    @contextlib.contextmanager
    def _guarded(self, reason: str) -> Iterator[None]:
        """Give the link up if the block takes too long: these calls wait without a limit."""
        guard = threading.Timer(_OPEN_TIMEOUT_S, self.fail, [reason])
        guard.daemon = True  # an interrupt may come before it is known to have started
        try:
            guard.start()
            yield
        finally:
            guard.cancel()
            if guard.is_alive():
                guard.join()

    def prod(self) -> None:
        """Ask for an answer of any kind, which `heard_at` notes. For use within `watching`."""
        self._transport.global_request("keepalive@openssh.com", wait=True)

    def on_close(self, closer: Callable[[], None]) -> None:
        """Have `closer` called when the link is closed; at once if that is past."""
        with self._lock:
            if not self._closed:
                self._closers.append(closer)
                return
        closer()

    def release(self, channel: paramiko.Channel) -> None:
        """Close one channel. Idempotent."""
        with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
            channel.close()

    def fail(self, reason: str) -> None:
        """Give the connection up: a thread that waits on it gets ConnectionLost with `reason`."""
        with self._lock:
            self._failure = self._failure or reason
        hang_up(self._transport, self._wire)

    def fail_silent(self, reason: str) -> None:
        """The same for a node that says nothing more: the path may lose what is large.

        Connections made to it later keep their packets small.
        """
        if not self._closed and self._failure is None and self._wire.note_silence():
            self.may_be_narrow = True
        self.fail(reason)

    def lost(self, error: BaseException | None = None) -> ConnectionLost:
        """The error to raise now that the connection is gone."""
        cause = error or self._transport.get_exception()
        reason = self._failure or (str(cause) if cause and str(cause) else "it was closed")
        said = self._wire.said()
        reason += f" ({said})" if said else ""
        return ConnectionLost(
            f"{self.address}: the connection is lost: {reason}",
            hint="The node may have gone away, or the network between; a path that loses large"
            " packets (MTU) looks like that too.",
        )

    @contextlib.contextmanager
    def translating(self) -> Iterator[None]:
        """Turn what paramiko raises on a dead connection into ConnectionLost."""
        try:
            yield
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise self.lost(error) from error

    @contextlib.contextmanager
    def watching(self, silence_timeout_s: float, within_s: float) -> Iterator[None]:
        """Give the link up if the node sends nothing for so long, or the context lasts too long.

        For transfers without an agent: a receiver's window updates are what is heard. A write
        that blocks in the socket has no deadline of its own.
        """
        done = threading.Event()
        entered = time.monotonic()

        def watch() -> None:
            while not done.wait(_WATCH_TICK_S):
                if time.monotonic() - max(self.heard_at, entered) > silence_timeout_s:
                    self.fail_silent(f"the node sent nothing for {silence_timeout_s:g} s")
                if time.monotonic() - entered > within_s:
                    self.fail(f"the node did not take it within {within_s:g} s")

        thread = threading.Thread(target=watch, name="watch", daemon=True)
        try:
            thread.start()
            yield
        finally:
            done.set()
            if thread.is_alive():
                thread.join()

    def close(self) -> None:
        with self._lock:
            self._failure = self._failure or "we closed it"
            self._closed = True
            closers, self._closers = self._closers, []
        hang_up(self._transport, self._wire)
        for closer in closers:
            closer()
        with self._lock:
            self._channels.clear()


class _Window(BufferedPipe):  # type: ignore[misc]  # paramiko has no types
    """What a channel received and nobody read yet: never more than the window allows.

    paramiko leaves it to the peer to keep to that (RFC 4254, 5.2).
    """

    def __init__(self, limit_bytes: int, exceeded: Callable[[str], None]) -> None:
        super().__init__()
        self._limit_bytes = limit_bytes
        self._exceeded = exceeded

    def feed(self, data: bytes) -> None:
        """By paramiko's own thread, which ends with what is raised."""
        if len(self) + len(data) > self._limit_bytes:
            self._exceeded("the node sent more than its window")
            raise EOFError
        super().feed(data)


def hold_to_window(link: Link, channel: paramiko.Channel, limit_bytes: int) -> None:
    """Give `link` up if the peer exceeds `limit_bytes`. Before it can send on the channel."""
    channel.in_buffer = _Window(limit_bytes, link.fail)
    channel.in_stderr_buffer = _Window(limit_bytes, link.fail)


def window_bytes(rtt_s: float) -> int:
    """How much a node may send on one channel before we have read it.

    No more than the line holds, and more channels rather than larger windows: with 32 MiB,
    OpenSSH 9.2's server took 2 to 5 s of processor time for 200 MiB, with 2 MiB 0.2 s. It
    reads a window ahead, into a buffer that grows in small steps (sshbuf.c).
    """
    return max(_WINDOW_MIN_BYTES, min(int(DOWNLOAD_BYTES_PER_S * rtt_s), WINDOW_MAX_BYTES))


def hang_up(transport: paramiko.Transport, wire: Wire) -> None:
    """Close without waiting for the peer, and wait for paramiko's thread to end."""
    wire.close()
    transport.packetizer.complete_handshake()  # ends the handshake's timer thread
    transport.close()
    if transport.is_alive() and threading.current_thread() is not transport:
        transport.join(_JOIN_TIMEOUT_S)


def shown_host_key(transport: paramiko.Transport) -> HostKey:
    """The key with which the peer signed this connection's key exchange."""
    key = transport.get_remote_server_key()
    return HostKey(key.get_name(), key.asbytes())
