# SPDX-License-Identifier: GPL-2.0-or-later
"""OpenStack and Rackspace: mimic's server, with a real node for each of its servers.

Compute requests go to mimic. Console output, stop and start, images and floating addresses, which
it lacks, are answered here as the API references have them. Addresses, times and states are
replaced by the node's own.
"""

from __future__ import annotations

import base64
import json
import time
import urllib.parse
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.lab.clouds import backend, openstack_json
from tests.lab.clouds.backend import Backend
from tests.lab.clouds.cloud import Cloud, Listing
from tests.lab.clouds.faults import Exchange, Fault, Request, Response
from tests.lab.clouds.machines import Boot, Machine, State
from tests.lab.clouds.metadata import NodeData, Tree
from tests.lab.clouds.network import Port
from tests.lab.clouds.openstack_identity import (
    API_KEY,
    COMPUTE,
    CREDENTIAL_ID,
    CREDENTIAL_SECRET,
    PASSWORD,
    PROJECT,
    REGION,
    USER,
    Identity,
)
from tests.lab.clouds.openstack_services import ImageService, NetworkService
from tests.lab.clouds.remotes import clouds_yaml, remote
from tests.lab.layout import Lab

FLAVOR = "2"
_NOVA = "NovaApi-"


class OpenStackCloud(Cloud):
    """See the package. Servers are nodes by their ids; faults know paths as ``POST /servers``.

    An action's name is the parameter ``action`` of ``POST /servers/{id}/action``.
    """

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        services = {name: f"{self.url}/{name}" for name in ("image", "network")}
        self.identity = Identity(self.ask, services)
        self.image_service = ImageService(self.drop_disk)
        self.network_service = NetworkService(self._find_address)
        self._dooms: dict[str, tuple[float, str]] = {}

    @property
    def auth_url(self) -> str:
        """Without a version."""
        return f"{self.url}/identity"

    def ask(self, request: Request) -> Response:
        """What mimic answers. It puts its own port into URLs."""
        response = super().ask(request)
        theirs, ours = (f"127.0.0.1:{port}" for port in (self.backend.port, self.proxy.port))
        return replace(response, body=response.body.replace(theirs.encode(), ours.encode()))

    def make_backend(self) -> Backend:
        return backend.mimic(self.site.directory)

    def register(self, name: str) -> str:
        return self.image_service.add(name, PROJECT)

    def private_files(self) -> dict[str, str]:
        auth = {
            "application_credential_id": CREDENTIAL_ID,
            "application_credential_secret": CREDENTIAL_SECRET,
        }
        rackspace = {
            "region": REGION,
            "endpoint": self.auth_url,
            "username": USER,
            "api_key": API_KEY,
        }
        return {
            "remotes.d/openstack.toml": remote(self, "openstack", FLAVOR, {"cloud": "lab"}),
            "remotes.d/rackspace.toml": remote(self, "rackspace", FLAVOR, rackspace),
            "clouds.yaml": clouds_yaml(self.auth_url, auth, REGION),
        }

    def environment(self, path: Path) -> tuple[str, ...]:
        return (f"OS_CLIENT_CONFIG_FILE={path / 'clouds.yaml'}",)

    def name(self, request: Request) -> Request:
        words, query = _words(request)
        parameters = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        if words[:1] == ["identity"]:
            path = words[2:]
        elif words[:1] == ["mimicking"]:
            path = words[5:]
        else:
            path = words[1:]
        if len(path) > 1 and path[0] in ("servers", "images", "flavors") and path[1] != "detail":
            parameters["id"] = path[1]
            path[1] = "{id}"
        value = openstack_json.read(request)
        if path[-1:] == ["action"]:
            parameters["action"] = next(iter(value), "")
        server = value.get("server")
        if isinstance(server, dict):
            parameters |= {key: text for key, text in server.items() if isinstance(text, str)}
        operation = f"{request.method} /{'/'.join(path)}"
        return replace(request, operation=operation, parameters=parameters)

    def act(self, request: Request) -> Response:
        """What OpenStack does for a request."""
        words, _ = _words(request)
        if words[:1] == ["identity"]:
            return self.identity.act(request, words[1:])
        behind = self.identity.find(request.headers.get("X-Auth-Token", ""))
        if behind is None:
            return openstack_json.identity_error(401, "Unauthorized", "Token is not valid.")
        if words[:1] == ["image"]:
            return self.image_service.act(request, words[2:])
        if words[:1] == ["network"]:
            return self.network_service.act(request, words[2:])
        request = replace(request, headers={**request.headers, "X-Auth-Token": behind})
        is_compute = len(words) > 1 and words[1].startswith(_NOVA)
        return self._compute(request) if is_compute else self.ask(request)

    def dying(self, message: str, after_s: float = 0.0) -> Fault:
        """A fault for POST /servers: what it makes is built and then fails, saying why."""

        def doom(exchange: Exchange) -> Response:
            response = exchange.forward()
            if response.status == 202:
                server = str(json.loads(response.body)["server"]["id"])
                self._dooms[server] = (time.monotonic() + after_s, message)
                self.site.destroy(server)
            return response

        return doom

    def on_end(self, machine: Machine) -> None:
        """Nova keeps a server that powers itself off: SHUTOFF, and paid for."""

    def listing(self) -> Listing:
        return Listing(
            instances=tuple(one["id"] for one in self._own("servers")["servers"]),
            key_pairs=tuple(one["keypair"]["name"] for one in self._own("os-keypairs")["keypairs"]),
            addresses=tuple(self.network_service.floating),
            images=tuple(
                image for image in self.image_service.images if image not in self.stock_images
            ),
        )

    def reset(self) -> None:
        self.faults.clear()
        found = self.listing()
        for server in found.instances:
            self._own(f"servers/{server}", "DELETE")
        for name in found.key_pairs:
            self._own(f"os-keypairs/{name}", "DELETE")
        for image in found.images:
            self.image_service.remove(image)
        self.network_service.floating.clear()
        self.remove_machines()
        self.pending_s, self.early_sshd = 0.0, False
        self.proxy.disconnect()
        self.calls.clear()

    def _own(self, path: str, method: str = "GET") -> Any:
        """What mimic itself says of the project's compute resources."""
        headers = {"Content-Type": "application/json", "Host": f"127.0.0.1:{self.backend.port}"}
        auth = {"passwordCredentials": {"username": USER, "password": PASSWORD}}
        body = json.dumps({"auth": {**auth, "tenantName": PROJECT}}).encode()
        found = self.ask(Request("POST", "/identity/v2.0/tokens", headers, body))
        access = json.loads(found.body)["access"]
        endpoints = next(one for one in access["serviceCatalog"] if one["name"] == COMPUTE)
        url = next(one["publicURL"] for one in endpoints["endpoints"] if one["region"] == REGION)
        headers["X-Auth-Token"] = access["token"]["id"]
        where = f"{urllib.parse.urlsplit(url).path}/{path}"
        response = self.ask(Request(method, where, headers, b""))
        return json.loads(response.body) if response.body else {}

    def _find_address(self, server: str) -> str | None:
        machine = self.site.find(server)
        return None if machine is None else machine.address

    def _compute(self, request: Request) -> Response:
        server = request.parameters.get("id", "")
        if request.operation == "POST /servers":
            return self._create(request)
        if request.operation == "DELETE /servers/{id}":
            response = self.ask(request)
            if response.status == 204:
                self._dooms.pop(server, None)
                self.site.destroy(server)
            return response
        if request.operation == "POST /servers/{id}/action":
            return self._perform(request, server)
        return self._rewrite(self.ask(request))

    def _create(self, request: Request) -> Response:
        asked = openstack_json.read(request).get("server", {})
        image, flavor = str(asked.get("imageRef", "")), str(asked.get("flavorRef", ""))
        if image not in self.image_service.images:
            text = f"Can not find requested image (HTTP 400): {image}"
            return openstack_json.compute_error(400, "badRequest", text)
        # mimic takes any flavor, and knows none of our images.
        path = request.path.rstrip("/").removesuffix("servers") + f"flavors/{flavor}"
        if self.ask(replace(request, method="GET", path=path, body=b"")).status != 200:
            text = f"Flavor {flavor} could not be found."
            return openstack_json.compute_error(400, "badRequest", text)
        response = self.ask(request)
        if response.status == 202:
            self._boot(str(json.loads(response.body)["server"]["id"]), image, asked)
        return response

    def _boot(self, server: str, image: str, asked: Mapping[str, Any]) -> None:
        name = str(asked.get("name", server))
        facts = {
            "uuid": server,
            "name": name,
            "hostname": f"{name}.novalocal",
            "meta": asked.get("metadata", {}),
            "availability_zone": asked.get("availability_zone") or "nova",
            "launch_index": 0,
            "project_id": PROJECT,
            "random_seed": base64.b64encode(uuid.uuid4().bytes).decode(),
        }
        user_data = base64.b64decode(asked.get("user_data") or "")
        nova = {"DMI_SYSTEM_PRODUCT_NAME": "OpenStack Nova"}  # what cloud-init knows it by
        boot = Boot(
            self.disk(image),
            lambda port: NodeData(user_data, _as_ec2(server, port), facts),
            {**self.node_environment(), **nova},
            system=self.system,
            clock=self.clock,
        )
        self.site.boot(server, boot)

    def _perform(self, request: Request, server: str) -> Response:
        action = request.parameters["action"]
        machine, console = self.site.find(server), self.site.console(server)
        if action == "os-getConsoleOutput" and console is not None:
            length = openstack_json.read(request)[action].get("length")
            lines = console.splitlines()[-int(length) if length is not None else 0 :]
            return openstack_json.answer(200, {"output": "\n".join(lines)})
        if machine is None:
            return openstack_json.not_found(f"Instance {server}")
        if action == "createImage":
            asked = openstack_json.read(request)[action]
            properties = asked.get("metadata", {})
            image = self.image_service.add(str(asked.get("name", "")), PROJECT, **properties)
            self.keep_disk(image, machine)
            where = f"{self.url}/image/v2/images/{image}"
            # Before microversion 2.45 the id is told in the header only.
            return openstack_json.answer(202, None, Location=where)
        if action == "os-stop":
            machine.stop()
            return openstack_json.answer(202)
        if action == "os-start":
            machine.start()
            return openstack_json.answer(202)
        return self.ask(request)

    def _rewrite(self, response: Response) -> Response:
        """Servers as they are."""
        if response.status != 200:
            return response
        value = json.loads(response.body)
        found = value.get("servers", [value["server"]] if "server" in value else [])
        for server in found:
            if "status" in server:
                self._rewrite_one(server)
        return replace(response, body=json.dumps(value).encode()) if found else response

    def _rewrite_one(self, server: dict[str, Any]) -> None:
        name = server["id"]
        machine, doom = self.site.find(name), self._dooms.get(name)
        server["accessIPv4"] = server["accessIPv6"] = ""
        server["addresses"] = {}
        if doom is not None:
            failed = time.monotonic() >= doom[0]
            server["status"] = "ERROR" if failed else "BUILD"
            if failed:
                server["fault"] = {"code": 500, "message": doom[1]}
        if machine is None:
            return
        server["status"] = self._status(machine)
        server["created"] = _iso(machine.created_unix)
        server["updated"] = _iso(machine.started_unix)
        if machine.state is State.FAILED:
            server["fault"] = {"code": 500, "message": machine.problem}
        entry = {"addr": machine.address, "version": 4, "OS-EXT-IPS:type": "fixed"}
        server["addresses"] = {"private": [entry], "public": [dict(entry)]}
        server["accessIPv4"] = machine.address
        for floating in self.network_service.floating.values():
            if floating.get("fixed_ip_address") == machine.address:
                # Nodes have one address; the floating one is told as its alias.
                server["addresses"]["private"].append({**entry, "OS-EXT-IPS:type": "floating"})

    def _status(self, machine: Machine) -> str:
        if time.time() < machine.started_unix + self.pending_s:
            return "BUILD"
        return {
            State.STARTING: "BUILD",
            State.RUNNING: "ACTIVE",
            State.FAILED: "ERROR",
        }.get(machine.state, "SHUTOFF")


def _as_ec2(server: str, port: Port) -> Tree:
    """What Nova tells those who ask in EC2's words."""
    tree = {
        "ami-id": "ami-00000001",
        "hostname": server,
        "instance-id": "i-00000001",
        "instance-type": "small",
        "local-hostname": server,
        "local-ipv4": port.address,
        "placement": {"availability-zone": "nova"},
    }
    return {"meta-data": tree}


def _words(request: Request) -> tuple[list[str], str]:
    parts = urllib.parse.urlsplit(request.path)
    return [word for word in parts.path.split("/") if word], parts.query


def _iso(unix: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(unix))
