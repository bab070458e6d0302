# SPDX-License-Identifier: GPL-2.0-or-later
"""Channels beside the main one, for bytes in bulk: opened when first needed, then kept."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from mock_cloud.errors import MockCloudError, TransportError
from mock_cloud.remote.channel import AgentChannel

HEADER_MAX_BYTES: Final = 64 << 10
"""Of an answer's header here: there are only bytes in bulk and short refusals to be had."""
MOST: Final = 8
# sshd's default MaxSessions is 10; the main channel is one, and one stays free.


class BulkChannels:
    """A pool of trusted agent channels. `open_one` starts an agent and lets it join.

    Channels are opened by threads, all at a time, since each costs round trips; until they
    are there, the main channel carries what there is.
    """

    def __init__(self, open_one: Callable[[], AgentChannel]) -> None:
        self._open_one = open_one
        self._lock = threading.Lock()
        self._channels: list[AgentChannel] = []
        self._opening: list[threading.Thread] = []
        self._refused: TransportError | None = None

    def grow(self, count: int) -> None:
        """Begin to open channels until there are `count`. Returns at once."""
        with self._lock:
            self._opening = [thread for thread in self._opening if thread.is_alive()]
            have = len(self._channels) + len(self._opening)
            if self._refused is not None:
                return  # the node has no more for us; what is there must do
            for _ in range(min(count, MOST) - have):
                thread = threading.Thread(target=self._open, name="bulk", daemon=True)
                self._opening.append(thread)
                thread.start()

    def ready(self) -> list[AgentChannel]:
        with self._lock:
            return list(self._channels)

    def grown(self, count: int) -> list[AgentChannel]:
        """Like `grow`, and wait for the first; none if the node refuses all."""
        self.grow(count)
        with self._lock:
            opening = list(self._opening)
        for thread in opening:
            if channels := self.ready():
                return channels
            thread.join()
        return self.ready()

    def settle(self, within_s: float) -> None:
        """Wait until each agent has taken all it was sent; raises the first refusal."""
        channels = self.ready()
        calls = [channel.call("ping") for channel in channels]
        for channel, call in zip(channels, calls, strict=True):
            with call:
                call.next(within_s=within_s)
            channel.raise_refusal()

    def close(self) -> None:
        """End all channels; the pool can grow again afterwards. Idempotent."""
        with self._lock:
            opening, self._opening = self._opening, []
        for thread in opening:
            thread.join()
        with self._lock:
            channels, self._channels = self._channels, []
        for channel in channels:
            channel.close()

    def _open(self) -> None:
        try:
            channel = self._open_one()
        except TransportError as error:
            self._refused = error
            return
        except MockCloudError:
            return
        with self._lock:
            self._channels.append(channel)
        channel.space.set()
