# SPDX-License-Identifier: GPL-2.0-or-later
"""The way to an attested node, which is made anew when it is lost."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final, TypeVar

from mock_cloud.errors import (
    ConnectionLost,
    NodeGone,
    RemoteCommandError,
    TransportError,
)
from mock_cloud.remote.channel import AgentEnded
from mock_cloud.remote.trusted import TrustedChannel
from mock_cloud.steps.attest.verdicts import trust_again
from mock_cloud.steps.context import Build
from mock_cloud.steps.lease.node import connect_leased

_FIRST_TRY_S: Final = 3.0
_LONGEST_TRY_S: Final = 30.0
_STEADY_S: Final = 60.0
_UNSTEADY_MAX: Final = 10
"""Connections in a row that lasted for less than `_STEADY_S`: with more of them nothing gets on."""

_T = TypeVar("_T")


class LastingConnection:
    """The way to the node of `build`; without a `channel` there is none yet.

    `lasting` makes a new one when it is lost. `close` is idempotent.
    """

    def __init__(self, build: Build, channel: TrustedChannel | None = None) -> None:
        self._build = build
        self._channel = channel
        self._reached_at = 0.0
        self._unsteady = 0

    @property
    def channel(self) -> TrustedChannel:
        """The connection that there is. ConnectionLost."""
        if self._channel is None:
            raise ConnectionLost(f"{self._build.leased.address}: there is no connection")
        return self._channel

    def close(self) -> None:
        """End the connection. What runs on the node goes on."""
        if self._channel is not None:
            self._channel.close()
            self._build.node.close()

    def lasting(self, act: Callable[[TrustedChannel], _T]) -> _T:
        """What `act` returns; after a lost connection it is called with the next one.

        Another connection to the same node is tried for as long as that may live. Raises what lost
        the connection where the node is known to be gone, and all else that `act` does.
        """
        while True:
            try:
                return act(self.channel)
            except (ConnectionLost, AgentEnded) as error:
                self._reach_again(error)

    def reach(self, error: TransportError | None = None) -> None:
        """Connect to the node that was attested, for as long as it may live.

        Raises `error`, or else TransportError, where that is over. HostKeyMismatch, NodeGone.
        """
        build = self._build
        until_unix, try_s = self._waits_until(), _FIRST_TRY_S
        address = build.leased.address
        while not self._connect(try_s):
            left_s = until_unix - time.time()
            if left_s <= 0 or build.leased.is_known_gone:
                raise error or NodeGone(f"{address}: the node has ended, and its job with it")
            build.console.phase(f"remote {build.remote.name}: {address} cannot be reached")
            time.sleep(min(left_s, try_s * random.uniform(0.5, 1.0)))  # noqa: S311  no secret
            try_s = min(2 * try_s, _LONGEST_TRY_S)
        self._reached_at = time.monotonic()

    def _reach_again(self, error: TransportError) -> None:
        """Connect anew, or raise `error`. HostKeyMismatch, NodeGone."""
        build, began = self._build, time.monotonic()
        self._unsteady = 0 if began - self._reached_at > _STEADY_S else self._unsteady + 1
        if self._is_deaf or self._unsteady > _UNSTEADY_MAX:
            raise error
        if not build.leased.is_known_gone:
            build.console.done()
            at = time.strftime("%H:%M", time.localtime(self._waits_until()))
            build.console.warning(f"{error.message}; it is tried again until {at}")
        self.close()
        self.reach(error)
        took_s = self._reached_at - began
        build.console.info(f"remote {build.remote.name}: reached again after {took_s:.0f} s")

    @property
    def _is_deaf(self) -> bool:
        """Whether what is sent to the job could be lost with a line, and nobody would know."""
        work = self._build.work
        return self._build.row.mode == "shell" and (work is None or work.pty is None)

    def _waits_until(self) -> float:
        """When the node will have ended, if nobody reaches it: its own timer counts from now on."""
        hardening, expires_unix = self._build.hardening, self._build.leased.expires_unix
        return min(expires_unix, time.time() + hardening.grace_s) if hardening else expires_unix

    def _connect(self, within_s: float) -> bool:
        """Whether the node is reached, and is the one that was attested."""
        build = self._build
        tunnel, leased = build.tunnel, build.leased
        try:
            node = connect_leased(leased, build.remote, within_s)
        except TransportError as error:
            if not error.retryable:
                raise
            return False
        try:
            # What is left of the former connection is ended: its sshd may hold our port.
            alone = tunnel is not None and tunnel.port > 0 and leased.is_alone
            channel = trust_again(build, node, alone=alone)
            if channel is None:
                raise NodeGone(f"{leased.address}: the node has been started anew")
            if tunnel is not None:
                tunnel.renew(channel)
        except NodeGone:
            node.close()
            raise
        except (TransportError, RemoteCommandError):
            node.close()
            return False
        except BaseException:
            node.close()
            raise
        build.node, self._channel = node, channel
        build.host_keys.go_on_with(channel)
        return True
