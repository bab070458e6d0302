# SPDX-License-Identifier: GPL-2.0-or-later
"""A line of packets between this machine and a network namespace: slow, lossy, narrow.

Two TUN devices with a thread in between, which TCP of both sides has to live with as it has to with
netem(8), for kernels that have none.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import random
import select
import struct
import threading
import time
from contextlib import suppress

from mock_cloud.wire import syscalls
from tests.lab.clouds.network import ip_batch
from tests.lab.layout import LabError

_TUNSETIFF = 0x400454CA  # linux/if_tun.h
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_FAR_NAME = "wan0"
_PACKET_MAX = 1 << 16
_QUEUE_MAX = 1000  # packets each way, as netem's own limit


class PacketLine:
    """A context manager. `here` and `there` are the ends' addresses, IPv6 ones with `six`.

    `delay_s` is each way; `loss` is what part of the packets is dropped. Both may be assigned.
    Packets of more than `largest` bytes, if it is set, vanish without a word: a black hole.
    """

    def __init__(
        self, netns: str, *, delay_s: float = 0.0, loss: float = 0.0, mtu: int = 1500,
        six: bool = False, largest: int = 0,
    ) -> None:  # fmt: skip
        number = random.randrange(1000)  # noqa: S311 (no secret)
        self._name = f"lab{os.getpid()}n{number}"
        self._netns = netns
        self.delay_s, self.loss = delay_s, loss
        self._mtu = mtu
        self.largest, self.swallowed = largest, 0
        base = f"fd00:{number:x}::" if six else f"198.19.{number % 256}."
        self.here, self.there = f"{base}1", f"{base}2"
        self._length = 64 if six else 30
        self._random = random.Random(number)  # noqa: S311
        self._devices: list[int] = []
        self._stop, self._stopped = os.pipe()
        self.lost = 0
        self._thread = threading.Thread(target=self._carry, name="lab-packets")

    def __enter__(self) -> PacketLine:
        self._devices = [_open_tun(self._name)]
        failed: list[OSError] = []

        def enter() -> None:
            try:
                descriptor = os.open(self._netns, os.O_RDONLY | os.O_CLOEXEC)
                syscalls.enter_namespace(descriptor, syscalls.CLONE_NEWNET)
                os.close(descriptor)
                self._devices.append(_open_tun(_FAR_NAME))
            except OSError as error:
                failed.append(error)

        thread = threading.Thread(target=enter)  # it stays there, so it is one of its own
        thread.start()
        thread.join()
        if failed:
            self._close()
            raise LabError(f"no line to {self._netns}: {failed[0]}") from failed[0]
        nodad = " nodad" if ":" in self.here else ""
        for name, address, netns in (
            (self._name, self.here, None), (_FAR_NAME, self.there, self._netns),
        ):  # fmt: skip
            lines = [f"link set {name} mtu {self._mtu} up"]
            lines.append(f"address add {address}/{self._length} dev {name}{nodad}")
            ip_batch(lines, netns=netns)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.write(self._stopped, b"x")
        self._thread.join()
        self._close()

    def _close(self) -> None:
        for descriptor in (*self._devices, self._stop, self._stopped):
            os.close(descriptor)

    def _carry(self) -> None:
        ours, theirs = self._devices
        other = {ours: theirs, theirs: ours}
        waiting: list[tuple[float, int, int, bytes]] = []  # due, number, where to
        number = 0
        while True:
            left_s = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
            ready, _, _ = select.select([*other, self._stop], [], [], left_s)
            if self._stop in ready:
                return
            now = time.monotonic()
            for source in ready:
                with suppress(BlockingIOError):
                    while True:
                        packet = os.read(source, _PACKET_MAX)
                        if self._random.random() < self.loss or len(waiting) > 2 * _QUEUE_MAX:
                            self.lost += 1
                            continue
                        if 0 < self.largest < len(packet):
                            self.swallowed += 1
                            continue
                        number += 1
                        heapq.heappush(waiting, (now + self.delay_s, number, other[source], packet))
            while waiting and waiting[0][0] <= now:
                _, _, target, packet = heapq.heappop(waiting)
                with suppress(OSError):  # the other end is down
                    os.write(target, packet)


def _open_tun(name: str) -> int:
    """A TUN device of the calling thread's network namespace; it goes with its descriptor."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.ioctl(
            descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI)
        )
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
