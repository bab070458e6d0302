# SPDX-License-Identifier: GPL-2.0-or-later
"""Network namespaces with one cable each: what is in one reaches the other end and nothing else."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from mock_cloud.process import CommandFailed, run
from mock_cloud.wire import syscalls
from tests.lab.clouds.network import ip_batch
from tests.lab.layout import LabError

_ATTEMPTS = 20
_TIMEOUT_S = 20.0

T = TypeVar("T")


class Room:
    """A namespace with an address of its own, `address`; this machine's end is `here`.

    A /30 of 198.18.0.0/15 (RFC 2544: for tests, never routed), and no route but that. It is gone
    with its context, or with this process.
    """

    def __init__(self) -> None:
        self._namespace = -1
        self._interface = ""
        self.address = self.here = ""

    @property
    def path(self) -> str:
        """What other processes of root enter it by."""
        return f"/proc/{os.getpid()}/fd/{self._namespace}"

    @property
    def words(self) -> tuple[str, ...]:
        """What a command is started with to be in it."""
        return ("nsenter", f"--net={self.path}")

    def inside(self, work: Callable[[], T]) -> T:
        """What `work` returns when it is done in there; sockets that it makes stay there."""
        results: list[T] = []
        problems: list[BaseException] = []

        def enter() -> None:
            try:
                syscalls.enter_namespace(self._namespace, syscalls.CLONE_NEWNET)
                results.append(work())
            except BaseException as error:
                problems.append(error)

        thread = threading.Thread(target=enter)  # it stays there, so it is one of its own
        thread.start()
        thread.join()
        if problems:
            raise problems[0]
        return results[0]

    def __enter__(self) -> Room:
        thread = threading.Thread(target=self._make)
        thread.start()
        thread.join()
        for _ in range(_ATTEMPTS):
            number = random.randrange(1 << 15)  # noqa: S311 (no secret)
            base = f"198.{18 + (number >> 14)}.{(number >> 6) & 255}"
            last = (number & 63) * 4
            self.here, self.address = f"{base}.{last + 1}", f"{base}.{last + 2}"
            # The guard against leaks looks for interfaces that are called so.
            self._interface = f"lab{os.getpid()}n{number % 1000}"
            if f"{base}." not in run(["ip", "route"], timeout_s=_TIMEOUT_S).decode():
                with suppress(CommandFailed):  # mostly: another one has this name
                    self._plug()
                    return self
        self.close()
        raise LabError("no free network of 198.18.0.0/15, or no veth in this kernel")

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._namespace != -1:
            os.close(self._namespace)
            self._namespace = -1
            with suppress(CommandFailed):
                run(["ip", "link", "delete", self._interface], timeout_s=_TIMEOUT_S)

    def _make(self) -> None:
        syscalls.unshare(syscalls.CLONE_NEWNET)
        self._namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def _plug(self) -> None:
        ip_batch(
            (
                f"link add {self._interface} type veth peer name eth0 netns {self.path}",
                f"address add {self.here}/30 dev {self._interface}",
                f"link set {self._interface} up",
            )
        )
        ip_batch(
            (f"address add {self.address}/30 dev eth0", "link set eth0 up", "link set lo up"),
            netns=self.path,
        )
