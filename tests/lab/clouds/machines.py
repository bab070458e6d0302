# SPDX-License-Identifier: GPL-2.0-or-later
"""The nodes behind a cloud: what the lab's own process knows and does about each."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from mock_cloud.errors import MockCloudError
from mock_cloud.process import environment
from tests.lab.clouds.images import copy_disk
from tests.lab.clouds.machine import MachinePlan
from tests.lab.clouds.metadata import MetadataService, NodeData
from tests.lab.clouds.network import Network, Port
from tests.lab.layout import repository_root

_END_TIMEOUT_S = 120.0  # a virtual machine takes its time
_PREFIX = "lab-cloud-"
# linux/fs.h: _IOWR('X', 119, int), _IOWR('X', 120, int)
_FIFREEZE, _FITHAW = 0xC0045877, 0xC0045878


class State(Enum):
    """Where a machine is. POWERED_OFF: it did so itself; STOPPED: it was told to."""

    STARTING = "starting"
    RUNNING = "running"
    POWERED_OFF = "powered off"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Boot:
    """How a machine starts. `disk` is copied; `metadata` may be made once the address is known.

    `system`: see `MachinePlan`.
    """

    disk: Path
    metadata: Callable[[Port], NodeData]
    environment: Mapping[str, str] = field(default_factory=dict)
    is_plugged: bool = True
    system: Path | None = None
    clock: str = ""


class Machine:
    """One node. Its threads and processes end with it; `destroy` is idempotent."""

    def __init__(self, name: str, boot: Boot, site: Site, port: Port | None = None) -> None:
        self.name = name
        self.port = port or site.network.new_port()
        self.state = State.STARTING
        self.problem = ""
        self.created_unix = self.started_unix = time.time()
        self.init_pid = 0
        self.directory = site.directory / "nodes" / name
        self.clock = boot.clock
        self._boot = boot
        self._site = site
        self._ended = threading.Event()
        self._is_wanted = True
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None

    @property
    def address(self) -> str:
        return self.port.address

    @property
    def console(self) -> str:
        """All that the node has printed; control characters as they came."""
        with suppress(FileNotFoundError):
            return (self.directory / "console.log").read_text(errors="replace")
        return ""

    def start(self) -> None:
        """Boot, in the background: `state` tells. Again after a stop, with the same disk."""
        self.state, self.problem, self._is_wanted = State.STARTING, "", True
        self.started_unix = time.time()
        self._ended.clear()
        self._thread = threading.Thread(target=self._run, name=f"machine {self.name}")
        self._thread.start()

    def stop(self) -> None:
        """Press the power button and wait; past a deadline the node is killed."""
        self._is_wanted = False
        self._tell(b"stop\n")
        self._ended.wait(_END_TIMEOUT_S)

    def crash(self) -> None:
        """As if its host had failed, which nobody asked for."""
        self._tell(b"crash\n")
        self._ended.wait(_END_TIMEOUT_S)

    def kill(self) -> None:
        """End the node at once; nothing is written back."""
        self._is_wanted = False
        self._tell(b"kill\n")
        self._ended.wait(_END_TIMEOUT_S)

    def destroy(self) -> None:
        """End the node and remove its disk, its address, its data.

        Called from `Site.on_end`, the node has ended already.
        """
        if self._thread is not None and self._thread is not threading.current_thread():
            self.kill()
            self._thread.join()
        self._site.metadata.remove(self.address)
        self._site.network.free(self.port)
        shutil.rmtree(self.directory, ignore_errors=True)

    def set_link(self, up: bool) -> None:
        """Whether the node's cable is plugged in."""
        self._site.network.set_link(self.port, up)

    def copy_disk(self, target: Path) -> None:
        """The disk as it is now, in a state that can be mounted, whether or not it runs."""
        if self._boot.system is not None:
            return self._copy_disk_of_vm(target)
        frozen = os.open(f"/proc/{self.init_pid}/root", os.O_RDONLY) if self._is_alive() else -1
        try:
            if frozen != -1:
                fcntl.ioctl(frozen, _FIFREEZE, 0)
            copy_disk(self.directory / "disk.img", target)
        finally:
            if frozen != -1:
                fcntl.ioctl(frozen, _FITHAW, 0)
                os.close(frozen)

    def _copy_disk_of_vm(self, target: Path) -> None:
        """As EC2 does it unless asked otherwise: the instance is shut down and started again."""
        was_alive = self._is_alive()
        if was_alive:
            self.stop()
        copy_disk(self.directory / "disk.img", target)
        if was_alive:
            self.start()

    def _is_alive(self) -> bool:
        return self.state is State.RUNNING

    def _tell(self, command: bytes) -> None:
        process = self._process
        if process is not None and process.stdin is not None:
            with suppress(OSError, ValueError):  # it ended meanwhile
                process.stdin.write(command)
                process.stdin.flush()

    def _run(self) -> None:
        try:
            self._prepare()
            self._supervise()
        except (OSError, ValueError, MockCloudError) as error:
            self._end(State.FAILED, str(error))
        finally:
            self._ended.set()

    def _prepare(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        disk = self.directory / "disk.img"
        if not disk.exists():
            copy_disk(self._boot.disk, disk)
        self._site.metadata.put(self.address, self._boot.metadata(self.port))

    def _supervise(self) -> None:
        plan = MachinePlan(
            str(self.directory),
            str(self.directory / "disk.img"),
            self.port,
            self._boot.environment,
            "" if self._boot.system is None else str(self._boot.system),
            self.clock,
        )
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.lab.clouds.machine"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment({"PYTHONPATH": str(repository_root())}),
            start_new_session=True,
        )
        self._process = process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            self._tell(plan.to_line())
            if not self._is_wanted:  # told to end before there was anyone to tell
                self._tell(b"kill\n")
            for line in process.stdout:
                self._take(json.loads(line), process.pid)
        finally:
            self._process = None
            process.stdin.close()
            process.stdout.close()
            process.wait()
        if self.state in (State.STARTING, State.RUNNING):
            self._end(State.FAILED if self._is_wanted else State.STOPPED, "its hypervisor died")

    def _take(self, event: Mapping[str, object], pid: int) -> None:
        kind = event["event"]
        if kind == "waiting":
            self._site.network.plug(self.port, f"/proc/{pid}/ns/net")
            if not self._boot.is_plugged:
                self.set_link(False)
            self._tell(b"plugged\n")
        elif kind == "booting":
            self.init_pid = int(str(event["pid"]))
            self.state = State.RUNNING
        elif kind == "ended" and event["how"] != "reboot":
            how = {"poweroff": State.POWERED_OFF, "stopped": State.STOPPED}
            self._end(how.get(str(event["how"]), State.FAILED), f"its init was {event['how']}")
        elif kind == "failed":
            self._end(State.FAILED, str(event["why"]))

    def _end(self, state: State, problem: str) -> None:
        self.state = state
        self.problem = problem if state is State.FAILED else ""
        self._site.on_end(self)


class Site:
    """Network, metadata service and directory that the machines of one cloud share."""

    def __init__(self) -> None:
        self.network = Network()
        self.directory = Path()
        self.on_end: Callable[[Machine], None] = lambda machine: None
        self._machines: dict[str, Machine] = {}
        self._consoles: dict[str, str] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Site:
        with ExitStack() as stack:
            _remove_orphans()
            self.directory = Path(tempfile.mkdtemp(prefix=_PREFIX))
            stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
            # Held as long as this process lives, which tells others whose directory it is.
            lock = stack.enter_context((self.directory / "lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            stack.enter_context(self.network)
            self.metadata = stack.enter_context(MetadataService(self.network.metadata_socket))
            stack.callback(self._destroy_all)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def boot(self, name: str, boot: Boot, port: Port | None = None) -> Machine:
        """A new machine, on its way up; its `port` may be one that somebody else chose."""
        machine = Machine(name, boot, self, port)
        self._machines[name] = machine
        machine.start()
        return machine

    def find(self, name: str) -> Machine | None:
        return self._machines.get(name)

    def machines(self) -> tuple[Machine, ...]:
        """All that were not destroyed."""
        return tuple(self._machines.values())

    def console(self, name: str) -> str | None:
        """What a machine printed, also of one that was destroyed; None if there was none."""
        machine = self.find(name)
        return self._consoles.get(name) if machine is None else machine.console

    def destroy(self, name: str) -> None:
        """Idempotent; returns when nothing is left of it but its console's text."""
        machine = self._machines.pop(name, None)
        if machine is not None:
            self._consoles[name] = machine.console
            machine.destroy()

    def _destroy_all(self) -> None:
        for machine in self.machines():
            self.destroy(machine.name)


def _remove_orphans() -> None:
    """Directories that labs which were killed left: their machines removed their own parts."""
    for lock in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/lock"):
        with suppress(OSError), lock.open() as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)
