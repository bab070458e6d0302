# SPDX-License-Identifier: GPL-2.0-or-later
"""The answers of real servers (Nova 26.2, Glance 25.1, Neutron 21), from a small server of ours.

What is only read is a table; images and networks are the lab's services, which keep state.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from libcloud.common.openstack_identity import OpenStackServiceCatalog

from mock_cloud.cloud.apis.calls import Breaker, Calls
from mock_cloud.cloud.apis.clouds_yaml import CloudEntry
from mock_cloud.cloud.apis.openstack import OpenStackApi
from mock_cloud.cloud.apis.openstack_connection import ServiceConnection
from mock_cloud.cloud.apis.openstack_credentials import parse_credentials
from mock_cloud.cloud.apis.openstack_failures import OpenStackClassifier
from mock_cloud.settings import NodeSettings, OpenStackSettings
from tests.lab.clouds.faults import Request, Response
from tests.lab.clouds.openstack_json import answer, not_found
from tests.lab.clouds.openstack_services import ImageService, NetworkService

PROJECT = "7207f3f8a1dc4c33a1b5c3e3cea81fb6"
OTHER = "fc738d95c2904d43b5c074d0a8ab3dcc"
IMAGE = "e7f68627-21d8-4a65-9ee5-b35ac2344234"


def _rule(**changes: object) -> dict[str, object]:
    whole = {"direction": "ingress", "ethertype": "IPv4", "protocol": None, "port_range_min": None,
             "port_range_max": None, "remote_ip_prefix": None, "remote_group_id": None}  # fmt: skip
    return {**whole, **changes}


def _flavor(name: str, vcpus: int, ram: int, disk: int) -> dict[str, object]:
    return {"id": f"id-{name}", "name": name, "vcpus": vcpus, "ram": ram, "disk": disk}


_FLAVORS = [_flavor("m1.tiny", 1, 64, 1), _flavor("m1.huge", 4000, 64, 1),
            _flavor("m1.wide", 1, 999_999, 1), _flavor("v1.small", 1, 64, 0)]  # fmt: skip
_SSH = _rule(protocol="tcp", port_range_min=22, port_range_max=22, remote_ip_prefix="192.0.2.0/24")
_GROUPS = [
    {"id": "g1", "name": "default", "security_group_rules": [_rule(remote_group_id="g1")]},
    {"id": "g2", "name": "ssh", "security_group_rules": [_SSH]},
    {"id": "g3", "name": "web", "security_group_rules": [
        _rule(protocol="tcp", port_range_min=80, port_range_max=443), _rule(direction="egress")]},
]  # fmt: skip


class Answers:
    """`tables` are bodies by path; a test changes them. `asked` are methods and paths."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.images = ImageService(lambda _: None)
        self.network = NetworkService(lambda _: None)
        self.limits = {
            "maxTotalInstances": 10, "maxTotalCores": 20, "maxTotalRAMSize": 51200,
            "totalRAMUsed": 0, "totalCoresUsed": 0, "totalInstancesUsed": 0,
        }  # fmt: skip
        self.quota = {
            "port": {"limit": 500, "used": 1, "reserved": 0},
            "floatingip": {"limit": 50, "used": 0, "reserved": 0},
        }

    def act(self, request: Request) -> Response:
        self.asked.append(f"{request.method} {request.path}")
        words = request.path.strip("/").split("/")
        if words[:1] == ["v2"]:
            return self.images.act(request, words[1:])
        if words[:1] == ["v2.0"] and words[1] in ("networks", "ports", "floatingips"):
            return self.network.act(request, words[1:])
        zone = {"zoneName": "nova", "zoneState": {"available": True}, "hosts": None}
        closed = {"zoneName": "old", "zoneState": {"available": False}, "hosts": None}
        tables: dict[str, Any] = {
            "/limits": {"limits": {"rate": [], "absolute": self.limits}},
            "/os-availability-zone": {"availabilityZoneInfo": [zone, closed]},
            "/flavors": {"flavors": [{"id": f["id"], "name": f["name"]} for f in _FLAVORS]},
            "/flavors/detail": {"flavors": _FLAVORS},
            **{f"/flavors/{f['id']}": {"flavor": f} for f in _FLAVORS},
            "/v2.0/security-groups": {"security_groups": _GROUPS},
            "/v2.0/quotas/tenant": {"tenant": {"tenant_id": PROJECT}},
            f"/v2.0/quotas/{PROJECT}/details.json": {"quota": self.quota},
            **{
                f"/images/{handle}": {"image": {**one, "status": one["status"].upper()}}
                for handle, one in self.images.images.items()
            },
        }
        if request.path in tables:
            return answer(200, tables[request.path])
        return not_found(words[-1])


class _Tokens:
    def token(self) -> str:
        return "t"

    def catalog(self) -> OpenStackServiceCatalog:
        raise AssertionError("the services' URLs are given")

    def clear_cached_auth_context(self) -> None:
        pass


@contextmanager
def run_answers() -> Iterator[tuple[Answers, str]]:
    """The answers, and their URL."""
    answers = Answers()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = urlsplit(self.path)
            request = Request(
                self.command, parts.path, dict(self.headers), body,
                parameters=dict(parse_qsl(parts.query)),
            )  # fmt: skip
            found = answers.act(request)
            self.send_response(found.status)
            for name, value in found.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(found.body)))
            self.end_headers()
            self.wfile.write(found.body)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield answers, f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def make_api(url: str, placement: OpenStackSettings, node: NodeSettings) -> OpenStackApi:
    """The adapter, with nothing between it and the answers but HTTP."""
    entry = {"auth_url": url, "username": "me", "password": "hidden", "project_id": PROJECT}
    overrides = {f"{name}_endpoint_override": url for name in ("compute", "network", "image")}
    credentials = parse_credentials(CloudEntry("cloud 'x' of /p", {**entry, **overrides}))
    judge = OpenStackClassifier("OpenStack at x", credentials.source)
    calls = Calls("OpenStack at x", judge, breaker=Breaker(), timeout_s=3.0)
    return OpenStackApi(
        calls,
        judge,
        lambda name: ServiceConnection(credentials, _Tokens(), name, 5.0),
        {"x86_64": node},
        placement,
    )
