# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab's machines as the servers of a real Nova: what its driver in `services` asks for."""

from __future__ import annotations

import base64
import json
import threading
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any

from tests.lab.bootable.system import system_tree
from tests.lab.clouds import images
from tests.lab.clouds.machines import Boot, Site, State
from tests.lab.clouds.metadata import NodeData
from tests.lab.clouds.network import Port
from tests.lab.http import FileServer
from tests.lab.layout import Lab
from tests.real_openstack.cloud import FIRST_PORT

GUESTS_PORT = FIRST_PORT + 8
_OFF = (State.POWERED_OFF, State.FAILED, State.STOPPED)


class Guests:
    """A context manager. `subnet` is theirs, for Neutron, as is the `gateway` in it.

    With a lab that has systemd, servers are virtual machines, and nobody signed for their
    stock image; with the other one namespaces, and `manifest` is the stock image's. They boot that,
    or what `copy` made of another server's disk. `asked` has the words of the driver so far.
    """

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._site = Site()
        self._numbers = count()
        self._disks: dict[str, Path] = {}
        self._stack = ExitStack()
        self.asked: list[str] = []

    def __enter__(self) -> Guests:
        with ExitStack() as stack:
            self._stock = images.build(self.lab)
            stack.enter_context(self._site)
            self.manifest = self._site.directory / "manifest.dsse.json"
            if not self.lab.has_systemd:
                images.write_manifest(self.lab, self._stock, self.manifest)
            served = FileServer({"/dist": self.lab.dist}, host=self.gateway)
            self.repository_url = f"{stack.enter_context(served).url}/dist"
            server = ThreadingHTTPServer(("127.0.0.1", GUESTS_PORT), _handler(self))
            stack.callback(server.server_close)
            thread = threading.Thread(target=server.serve_forever, name="guests")
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def gateway(self) -> str:
        return self._site.network.host_address

    @property
    def subnet(self) -> str:
        return f"{self._site.network.subnet}.0/24"

    def names(self) -> tuple[str, ...]:
        """Nova's ids of the servers that have a machine here."""
        return tuple(machine.name for machine in self._site.machines())

    def answer(self, word: str, facts: dict[str, Any]) -> Any:
        """What the driver is told; see `services/lab_nova.py` for the words."""
        if word == "off":
            return [one.name for one in self._site.machines() if one.state in _OFF]
        self.asked.append(word)
        name = facts["name"]
        if word == "boot":
            self._boot(**facts)
        elif word == "console":
            return self._site.console(name)
        elif word == "destroy":
            self._site.destroy(name)
        else:
            self._act(word, name, facts)
        return True

    def _act(self, word: str, name: str, facts: dict[str, Any]) -> None:
        machine = self._site.find(name)
        if machine is None:
            return
        if word == "stop":
            machine.stop()
        elif word == "start" and machine.state is not State.RUNNING:
            machine.start()
        elif word == "copy":
            disk = self._site.directory / f"{facts['image']}.img"
            machine.copy_disk(disk)
            self._disks[facts["image"]] = disk

    def _boot(self, *, name: str, image: str, hostname: str, user_data: str, **facts: Any) -> None:
        nova = {
            "uuid": name,
            "name": hostname,
            "hostname": f"{hostname}.novalocal",
            "meta": facts["meta"],
            "availability_zone": "nova",
            "launch_index": 0,
            "project_id": facts["project"],
            "random_seed": base64.b64encode(name.encode()).decode(),
        }
        address = facts["address"]
        ec2 = {"instance-id": name, "local-hostname": hostname, "local-ipv4": address}
        data = NodeData(base64.b64decode(user_data), {"meta-data": ec2}, nova)
        boot = Boot(
            self._disks.get(image, self._stock.disk),
            lambda _: data,
            {"DMI_SYSTEM_PRODUCT_NAME": "OpenStack Nova"},
            system=system_tree(self.lab) if self.lab.has_systemd else None,
        )
        port = Port(f"port{next(self._numbers)}", address, facts["mac"], self.gateway)
        self._site.boot(name, boot, port)


def _handler(guests: Guests) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_POST(self) -> None:
            facts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            body = json.dumps(guests.answer(self.path.strip("/"), facts)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler
