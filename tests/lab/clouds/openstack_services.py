# SPDX-License-Identifier: GPL-2.0-or-later
"""Services that mimic lacks or only hints at: images with members, floating addresses.

As the Image API v2 and the Networking API v2.0 describe them, and no more than clients of the lab
ask for. Each answers requests whose path begins after the service's endpoint.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from tests.lab.clouds.faults import Request, Response
from tests.lab.clouds.openstack_json import answer, not_found, read

NETWORK_ID = "11111111-1111-4111-8111-111111111111"
POOL_ID = "22222222-2222-4222-8222-222222222222"
POOL = "public"
_NETWORKS = (
    {"id": NETWORK_ID, "name": "private", "router:external": False, "status": "ACTIVE"},
    {"id": POOL_ID, "name": POOL, "router:external": True, "status": "ACTIVE"},
)

Table = dict[str, dict[str, Any]]


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class ImageService:
    """/v2/images and their members. `on_delete` is told of images gone."""

    def __init__(self, on_delete: Callable[[str], None]) -> None:
        self.images: Table = {}
        self._members: dict[str, Table] = {}
        self._on_delete = on_delete
        self._lock = threading.Lock()

    def add(self, name: str, owner: str, **properties: str) -> str:
        """A new image, active at once; its id."""
        image = str(uuid.uuid4())
        self.images[image] = {
            "id": image,
            "name": name,
            "owner": owner,
            "status": "active",
            "visibility": "private",  # as Nova's snapshots are
            "created_at": _now(),
            "updated_at": _now(),
            "container_format": "bare",
            "disk_format": "raw",
            "min_disk": 0,
            "min_ram": 0,
            "protected": False,
            "size": 0,
            "tags": [],
            **properties,
        }
        self._members[image] = {}
        return image

    def remove(self, image: str) -> None:
        """Idempotent."""
        if self.images.pop(image, None) is not None:
            self._members.pop(image, None)
            self._on_delete(image)

    def act(self, request: Request, words: list[str]) -> Response:
        """`words` are the path's, after ``v2``."""
        with self._lock:
            if words == ["images"] and request.method == "GET":
                return answer(
                    200, {"images": self._wanted(request), "schema": "/v2/schemas/images"}
                )
            if len(words) < 2 or words[1] not in self.images:
                return not_found(f"Image {words[-1] if words else ''}")
            if len(words) == 2:
                return self._one(request, words[1])
            return self._member(request, words[1], words[3:])

    def _wanted(self, request: Request) -> list[dict[str, Any]]:
        wanted = {
            key: request.parameters[key] for key in ("name", "owner") & request.parameters.keys()
        }
        return [
            image
            for image in self.images.values()
            if all(image.get(key) == value for key, value in wanted.items())
        ]

    def _one(self, request: Request, image: str) -> Response:
        if request.method == "DELETE":
            self.remove(image)
            return answer(204)
        if request.method == "PATCH":  # RFC 6902, as openstack-images-v2.1-json-patch
            for change in read_list(request):
                name = str(change.get("path", "")).lstrip("/")
                if change.get("op") == "remove":
                    self.images[image].pop(name, None)
                else:
                    self.images[image][name] = change.get("value")
        return answer(200, self.images[image])

    def _member(self, request: Request, image: str, words: list[str]) -> Response:
        if self.images[image]["visibility"] != "shared":
            words_of_glance = "<html><body>Only shared images have members.<br /></body></html>"
            return Response(403, words_of_glance.encode(), {"Content-Type": "text/html"})
        members = self._members[image]
        if not words and request.method == "POST":
            member = str(read(request).get("member", ""))
            members[member] = {
                "member_id": member,
                "image_id": image,
                "status": "pending",
                "created_at": _now(),
                "updated_at": _now(),
                "schema": "/v2/schemas/member",
            }
            return answer(200, members[member])
        if not words:
            return answer(200, {"members": list(members.values()), "schema": "/v2/schemas/members"})
        if words[0] not in members:
            return not_found(f"Member {words[0]}")
        if request.method == "DELETE":
            del members[words[0]]
            return answer(204)
        if request.method == "PUT":
            members[words[0]]["status"] = str(read(request).get("status", "pending"))
        return answer(200, members[words[0]])


def read_list(request: Request) -> list[dict[str, Any]]:
    value = json.loads(request.body or b"[]")
    return [item for item in value if isinstance(item, dict)]


class NetworkService:
    """Networks, a port for each server, and floating addresses.

    `find_server` gives a server's address by its id, or None.
    """

    def __init__(self, find_server: Callable[[str], str | None]) -> None:
        self.floating: Table = {}
        self._find_server = find_server
        self._lock = threading.Lock()

    def act(self, request: Request, words: list[str]) -> Response:
        """`words` are the path's, after ``v2.0``."""
        with self._lock:
            if words == ["networks"]:
                return answer(200, {"networks": self._networks(request)})
            if words == ["ports"]:
                return answer(200, {"ports": self._ports(request.parameters.get("device_id", ""))})
            if words == ["floatingips"]:
                return self._floating(request)
            if words[:1] == ["floatingips"] and len(words) == 2 and words[1] in self.floating:
                return self._one(request, words[1])
        return answer(404, {"NeutronError": {"type": "NotFound", "message": "not found"}})

    def _networks(self, request: Request) -> list[dict[str, Any]]:
        external = request.parameters.get("router:external")
        return [
            dict(one)
            for one in _NETWORKS
            if external is None or str(one["router:external"]).lower() == external.lower()
        ]

    def _ports(self, server: str) -> list[dict[str, Any]]:
        address = self._find_server(server)
        if address is None:
            return []
        fixed = [{"ip_address": address, "subnet_id": NETWORK_ID}]
        port = {"id": f"port-{server}", "device_id": server, "status": "ACTIVE"}
        return [{**port, "network_id": NETWORK_ID, "fixed_ips": fixed}]

    def _floating(self, request: Request) -> Response:
        if request.method == "GET":
            return answer(200, {"floatingips": list(self.floating.values())})
        asked = read(request).get("floatingip", {})
        if asked.get("floating_network_id") != POOL_ID:
            return answer(404, {"NeutronError": {"type": "NetworkNotFound", "message": "no pool"}})
        made = str(uuid.uuid4())
        self.floating[made] = {
            "id": made,
            "description": asked.get("description", ""),
            "floating_network_id": POOL_ID,
            "floating_ip_address": f"203.0.113.{len(self.floating) % 250 + 1}",
            "status": "DOWN",
        }
        self._attach(self.floating[made], asked.get("port_id"))
        return answer(201, {"floatingip": self.floating[made]})

    def _one(self, request: Request, made: str) -> Response:
        if request.method == "DELETE":
            del self.floating[made]
            return answer(204)
        if request.method == "PUT":
            self._attach(self.floating[made], read(request).get("floatingip", {}).get("port_id"))
        return answer(200, {"floatingip": self.floating[made]})

    def _attach(self, floating: dict[str, Any], port: str | None) -> None:
        address = self._find_server((port or "").removeprefix("port-"))
        floating.update(
            port_id=port,
            fixed_ip_address=address,
            status="ACTIVE" if address else "DOWN",
        )
