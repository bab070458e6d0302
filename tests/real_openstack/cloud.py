# SPDX-License-Identifier: GPL-2.0-or-later
"""A real OpenStack on this machine's loopback, for tests: started once, its state kept.

MOCK_CLOUD_TEST_OPENSTACK_STATE names the directory of what is kept between runs, the tree and the
databases; without it that is in the lab.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.layout import LabError, repository_root
from tests.real_openstack import tree
from tests.releases import enter

FIRST_PORT = 17100  # none that Linux gives to whoever asks for any (ip_local_port_range)
_START_TIMEOUT_S = 2400.0  # two minutes, or half an hour once on a busy machine
_SERVICES = Path(__file__).parent / "services"


@dataclass(frozen=True)
class RealOpenStack:
    """`seeded` is what `services/seed.py` wrote: URLs, ids, secrets. `state` has pids and logs."""

    state: Path
    root: int
    seeded: dict[str, Any]

    def pid(self, name: str) -> int:
        """This machine's number of a service's process."""
        inside = int((self.state / f"pid.{name}").read_text())
        for path in Path("/proc").glob("[0-9]*/status"):
            try:
                text = path.read_text()
            except OSError:
                continue
            numbers = next(
                (line.split()[1:] for line in text.splitlines() if line.startswith("NSpid:")), []
            )
            if len(numbers) > 1 and numbers[-1] == str(inside) and self._is_in(path.parent):
                return int(numbers[0])
        raise LabError(f"{name} does not run: see {self.state}/log")

    def connect(self, project: str) -> Any:
        """openstacksdk as the user of `project`; "admin" may do all."""
        import openstack

        password = "admin" if project == "admin" else self.seeded[project]["password"]
        names = {"username": project, "password": password, "project_name": project}
        domains = {"user_domain_id": "default", "project_domain_id": "default"}
        return openstack.connection.Connection(
            auth={"auth_url": self.seeded["keystone"], **names, **domains},
            region_name=self.seeded["region"],
            identity_api_version="3",
        )

    def requests(self, service: str) -> list[str]:
        """Method, path and status of what one of Keystone, Nova and Placement was asked so far."""
        text = (self.state / f"log/{service}.log").read_text(errors="replace")
        return [line for line in text.splitlines() if line.startswith(("GET ", "POST ", "DELETE "))]

    def _is_in(self, process: Path) -> bool:
        own = Path(f"/proc/{self.root}/ns/pid_for_children")
        try:
            return (process / "ns/pid").readlink() == own.readlink()
        except OSError:
            return False


def state_directory() -> Path:
    """Where the tree and the databases are kept."""
    given = os.environ.get("MOCK_CLOUD_TEST_OPENSTACK_STATE")
    return Path(given) if given else repository_root() / ".lab/openstack"


def _state() -> Path:
    """Of the services at these ports, which their catalog names."""
    return state_directory() / f"state-{FIRST_PORT}"


def find_missing() -> str | None:
    """Why there can be no OpenStack on this machine; None if there can, or is."""
    missing = tree.find_missing()
    if missing is None and _running() is None:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", FIRST_PORT))
            except OSError:
                missing = f"needs port {FIRST_PORT} and the eight after it"
    return missing


@contextmanager
def run_openstack() -> Iterator[RealOpenStack]:
    """The services until the block ends; or those that are up already.

    LabError says which did not come up.
    """
    running = _running()
    if running is not None:
        yield running
        return
    home = state_directory()
    root = tree.make(home / "tree")
    state = _state()
    state.mkdir(parents=True, exist_ok=True)
    output = state / "up.log"
    with output.open("wb") as stream:
        process = enter.start(
            root,
            ["/usr/bin/python3", "/services/up.py", str(FIRST_PORT)],
            output=stream,
            binds={_SERVICES: "/services", state: "/state"},
        )
    try:
        _wait(process, output)
        (state / "root.pid").write_text(f"{process.pid}\n")
        yield _read(state, process.pid)
    finally:
        (state / "root.pid").unlink(missing_ok=True)
        # Nova ends itself gracefully in up to a minute, and the databases need no more than this.
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _read(state: Path, root: int) -> RealOpenStack:
    return RealOpenStack(state, root, json.loads((state / "projects.json").read_text()))


def _running() -> RealOpenStack | None:
    state = _state()
    try:
        root = int((state / "root.pid").read_text())
        os.kill(root, 0)
    except (OSError, ValueError):
        return None
    return _read(state, root)


def _wait(process: subprocess.Popen[bytes], output: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while "ready: all" not in output.read_text():
        if process.poll() is not None or time.monotonic() > deadline:
            raise LabError(f"OpenStack did not come up: {output.read_text()[-500:]}")
        time.sleep(0.5)
