# SPDX-License-Identifier: GPL-2.0-or-later
"""mimic behind the lab's proxy, without nodes: for tests of what is said to an API."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from mock_cloud.cloud.apis.adapter import TAG_EXPIRES, TAG_LEASE, TAG_REMOTE, Launch
from mock_cloud.cloud.apis.calls import Breaker, Calls
from mock_cloud.cloud.apis.clouds_yaml import CloudEntry
from mock_cloud.cloud.apis.openstack import OpenStackApi
from mock_cloud.cloud.apis.openstack_connection import ServiceConnection
from mock_cloud.cloud.apis.openstack_credentials import parse_credentials
from mock_cloud.cloud.apis.openstack_failures import OpenStackClassifier
from mock_cloud.cloud.apis.openstack_identity import make_token_source
from mock_cloud.cloud.images import TAG_OWNER
from mock_cloud.model import Secret
from mock_cloud.settings import (
    AttestSettings,
    CloudSettings,
    NodeSettings,
    OpenStackSettings,
    Remote,
)
from tests.lab.clouds.backend import Backend, mimic
from tests.lab.clouds.faults import Exchange, Fault, Request, Response
from tests.lab.clouds.openstack_services import NetworkService
from tests.lab.clouds.proxy import Proxy, ask_upstream

SOURCE = "cloud 'lab' of /etc/openstack/clouds.yaml"
SOURCE_FILE = Path("/etc/mock/remotes.d/lab.toml")
ATTEMPT_S = 0.5
"""How long a request may be silent in these tests."""
NODES = {"x86_64": NodeSettings(("image-1",), ("2", "3"))}


class Mimic:
    """The API: `proxy.faults` meet operations such as ``POST /servers`` and ``GET /servers/*``."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.proxy = Proxy(self._name, self._act)
        self.servers_with_ports: set[str] = set()
        self.network = NetworkService(
            lambda server: "10.0.0.4" if server in self.servers_with_ports else None
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.proxy.port}"

    def statuses(self) -> list[str]:
        """What was asked so far, with the answer's status, oldest first."""
        return [f"{call.operation} {call.status}" for call in self.proxy.calls]

    def _name(self, request: Request) -> Request:
        path, _, query = request.path.partition("?")
        found = re.fullmatch(r"/mimicking/[^/]+/[^/]+/v2/[^/]+(/.*)", path)
        operation = f"{request.method} {found[1] if found else path}"
        return replace(request, operation=operation, parameters=dict(parse_qsl(query)))

    def _act(self, request: Request) -> Response:
        if " /v2.0/" in request.operation:
            return self.network.act(request, request.operation.split("/")[2:])
        answer = ask_upstream(self.backend.port, request)
        # Its catalog names its own port.
        return replace(
            answer,
            body=answer.body.replace(
                f"127.0.0.1:{self.backend.port}".encode(), f"127.0.0.1:{self.proxy.port}".encode()
            ),
        )


@contextmanager
def run_mimic(directory: Path) -> Iterator[Mimic]:
    with mimic(directory) as backend:
        api = Mimic(backend)
        with api.proxy:
            yield api


def make_api(
    mimic: Mimic,
    tenant: str,
    placement: OpenStackSettings | None = None,
    *,
    timeout_s: float = 3.0,
    attempt_s: float = ATTEMPT_S,
    create_timeout_s: float = ATTEMPT_S,
) -> OpenStackApi:
    """The adapter as the product makes it, for an account of its own, but for shorter waits."""
    credentials = parse_credentials(
        CloudEntry(
            SOURCE,
            {
                "auth_url": f"{mimic.url}/identity/v2.0",
                "username": f"user-{tenant}",
                "password": "hidden-password",
                "project_name": tenant,
                "region_name": "ORD",
                "compute_service_name": "cloudServersOpenStack",
            },
        )
    )
    identity = make_token_source(credentials, attempt_s)
    service = "OpenStack at lab"
    judge = OpenStackClassifier(service, SOURCE)
    calls = Calls(
        service, judge, breaker=Breaker(), timeout_s=timeout_s, create_timeout_s=create_timeout_s
    )
    return OpenStackApi(
        calls,
        judge,
        lambda name: ServiceConnection(credentials, identity, name, attempt_s),
        NODES,
        placement or OpenStackSettings(),
    )


def make_remote(settings: CloudSettings) -> Remote:
    attest = AttestSettings(Path("manifest"), (), ())
    return Remote(
        "lab", "openstack", ("x86_64",), attest, cloud=settings, nodes=NODES, source=SOURCE_FILE
    )


def make_launch(lease_id: str = "a1b2c3", *, owner: str = "me@here:0", offer: int = 0) -> Launch:
    tags = {TAG_LEASE: lease_id, TAG_OWNER: owner, TAG_REMOTE: "lab", TAG_EXPIRES: "1900000000"}
    user_data = Secret(b"#cloud-config\n{}\n")
    return Launch(f"mock-cloud-{lease_id}", f"{lease_id}-0-{offer}", user_data, tags)


def json_fault(status: int, body: object) -> Fault:
    """An answer of the API's own."""
    response = Response(status, json.dumps(body).encode(), {"Content-Type": "application/json"})
    return lambda exchange: response


def altered(change: Callable[[Any], None]) -> Fault:
    """The API's answer with something changed in its JSON."""

    def fault(exchange: Exchange) -> Response:
        answer = exchange.forward()
        body = json.loads(answer.body)
        change(body)
        return replace(answer, body=json.dumps(body).encode())

    return fault
