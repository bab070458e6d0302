# SPDX-License-Identifier: GPL-2.0-or-later
"""Floating addresses for mimic, which has none: as much of the Networking API v2.0 as they need.

A test says when a server has its port (`add_port`). Answers have the shape of the API reference's.
"""

from __future__ import annotations

import json
import re
from itertools import count
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.lab.clouds.faults import Request, Response

POOL = {"id": "d9c1", "name": "public", "router:external": True}
_JSON = {"Content-Type": "application/json"}


class Network:
    """Answers below ``/v2.0/`` of the network service. `addresses` are the floating ones by id."""

    def __init__(self) -> None:
        self.addresses: dict[str, dict[str, Any]] = {}
        self._ports: dict[str, str] = {}
        self._numbers = count(1)

    def add_port(self, server: str) -> str:
        """A port of `server`, as nova makes one while it builds."""
        port = f"port-of-{server}"
        self._ports[port] = server
        return port

    def remove_server(self, server: str) -> None:
        """Its ports go, and the addresses stay."""
        gone = {port for port, owner in self._ports.items() if owner == server}
        self._ports = {port: owner for port, owner in self._ports.items() if port not in gone}
        for address in self.addresses.values():
            if address["port_id"] in gone:
                address["port_id"] = None

    def answer(self, request: Request) -> Response:
        parts = urlsplit(request.path)
        path = parts.path[parts.path.index("/v2.0/") :]
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        body = json.loads(request.body)["floatingip"] if request.body else {}
        one = re.fullmatch(r"/v2\.0/floatingips/(.+)", path)
        if one and one[1] not in self.addresses:
            return _answer(404, {"NeutronError": {"message": "Floating IP could not be found"}})
        if one and request.method == "DELETE":
            del self.addresses[one[1]]
            return Response(204)
        if one:
            self.addresses[one[1]] |= body
            return _answer(200, {"floatingip": self.addresses[one[1]]})
        if path == "/v2.0/floatingips" and request.method == "POST":
            return self._create(body)
        return self._list(path.rpartition("/")[2], query)

    def _create(self, body: dict[str, Any]) -> Response:
        if body["floating_network_id"] != POOL["id"]:
            return _answer(404, {"NeutronError": {"message": "Network could not be found"}})
        number = next(self._numbers)
        address = {
            "id": f"fip-{number}",
            "floating_ip_address": f"172.24.4.{number}",
            "port_id": body.get("port_id"),
            "description": body.get("description", ""),
        }
        self.addresses[f"fip-{number}"] = address
        return _answer(201, {"floatingip": address})

    def _list(self, what: str, query: dict[str, str]) -> Response:
        if what == "floatingips":
            found = list(self.addresses.values())
        elif what == "networks":
            found = [dict(POOL), {"id": "aa11", "name": "lan"}]
            found = [net for net in found if "router:external" not in query or len(net) == 3]
        else:
            found = [
                {"id": port, "device_id": server}
                for port, server in self._ports.items()
                if query.get("device_id", server) == server
            ]
        return _answer(200, {what: found})


def _answer(status: int, body: object) -> Response:
    return Response(status, json.dumps(body).encode(), _JSON)
