# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab's clouds, watched; and without their nodes: an instance greets like sshd and no more.

All of the API is as ever: HTTP, moto or mimic behind the proxy, its faults, its records. Paper
lets hundreds of leases pass in a minute; booted nodes show that the machines end too.
"""

from __future__ import annotations

import random
import re
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from tests.lab.clouds.cloud import Cloud
from tests.lab.clouds.ec2 import Ec2Cloud
from tests.lab.clouds.faults import Request, Response
from tests.lab.clouds.machines import Boot, Machine, Site, State
from tests.lab.clouds.openstack import OpenStackCloud
from tests.lab.layout import Lab, locked

PaperCloud = TypeVar("PaperCloud", bound="Watched")
_ATTEMPTS = 50


class _Greeting(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with suppress(OSError):
            self.request.sendall(b"SSH-2.0-paper\r\n")


class _Greeter(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


class PaperMachine(Machine):
    """A machine that is nothing but its greeting, on a loopback address of its own."""

    def __init__(self, name: str, boot: Boot, site: Site) -> None:
        super().__init__(name, boot, site)
        self._greeter = _greet_somewhere()
        self._address = str(self._greeter.server_address[0])

    @property
    def address(self) -> str:
        return self._address

    def start(self) -> None:
        threading.Thread(target=self._greeter.serve_forever, args=(0.05,), daemon=True).start()
        self.state = State.RUNNING

    def crash(self) -> None:
        """As a node whose own timer ended it, or whose power failed."""
        self._fall_silent()
        self._end(State.POWERED_OFF, "")

    def stop(self) -> None:
        self._fall_silent()
        self.state = State.STOPPED

    kill = stop

    def destroy(self) -> None:
        self._fall_silent()
        super().destroy()

    def _fall_silent(self) -> None:
        if self.state is State.RUNNING:
            self._greeter.shutdown()
            self._greeter.server_close()
            self.state = State.STOPPED


class PaperSite(Site):
    """Where paper machines are."""

    def boot(self, name: str, boot: Boot) -> Machine:
        machine = PaperMachine(name, boot, self)
        self._machines[name] = machine
        machine.start()
        return machine


class Watched(Cloud):
    """A cloud that writes down which instance was asked to end, and when."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        self.asked_to_end: list[tuple[float, str]] = []
        self.deaths = 0

    def act(self, request: Request) -> Response:
        if request.operation == "DELETE /servers/{id}":
            self.asked_to_end.append((time.time(), request.parameters["id"]))
        elif request.operation == "TerminateInstances":
            self.asked_to_end += [
                (time.time(), value)
                for key, value in request.parameters.items()
                if re.fullmatch(r"InstanceId\.\d+", key)
            ]
        return super().act(request)

    def kill_one(self, chance: random.Random, spared: set[str]) -> None:
        """End a random node behind the API's back."""
        living = [m for m in self.nodes() if m.state is State.RUNNING and m.name not in spared]
        if living:
            machine: Any = chance.choice(living)
            machine.crash()
            self.deaths += 1


class _Paper(Watched):
    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        self.site = PaperSite()


class PaperEc2(_Paper, Ec2Cloud):
    """EC2 of paper."""


class PaperOpenStack(_Paper, OpenStackCloud):
    """OpenStack of paper."""


class BootedEc2(Watched, Ec2Cloud):
    """EC2 whose instances are machines."""


@contextmanager
def opened(cloud: PaperCloud) -> Iterator[PaperCloud]:
    """The cloud at work, its stock image made if the lab has none."""
    with locked(cloud.lab):
        cloud.prepare()
    with cloud:
        yield cloud


def _greet_somewhere() -> _Greeter:
    for _ in range(_ATTEMPTS):
        last = ".".join(str(random.randrange(1, 255)) for _ in range(3))  # noqa: S311
        with suppress(OSError):
            return _Greeter((f"127.{last}", 22), _Greeting)
    raise OSError("no loopback address has a free port 22")
