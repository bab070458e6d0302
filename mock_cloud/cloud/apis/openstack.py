# SPDX-License-Identifier: GPL-2.0-or-later
"""OpenStack: servers by the compute API, floating addresses by the network API.

libcloud authenticates, knows the catalog and carries the requests. Its `create_node` is not used:
it reads the server back, and loses a server when that fails. The API has no idempotency token:
a server is found again by its name, which is the lease's, together with its tags.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit
from uuid import UUID

from mock_cloud.cloud.apis.adapter import (
    TAG_LEASE,
    Instance,
    InstanceState,
    Launch,
    Leftover,
    Offer,
)
from mock_cloud.cloud.apis.calls import ATTEMPT_TIMEOUT_S, Calls
from mock_cloud.cloud.apis.openstack_addresses import FloatingAddresses
from mock_cloud.cloud.apis.openstack_credentials import read_credentials
from mock_cloud.cloud.apis.openstack_failures import OpenStackClassifier, read_all, read_one, unwrap
from mock_cloud.cloud.apis.openstack_images import OpenStackImages
from mock_cloud.cloud.apis.openstack_servers import parse_server
from mock_cloud.cloud.apis.texts import NotThere
from mock_cloud.cloud.provider import Finding, look
from mock_cloud.errors import CloudError, ConfigError
from mock_cloud.settings import NodeSettings, OpenStackSettings, Remote

if TYPE_CHECKING:
    from mock_cloud.cloud.apis.openstack_identity import TokenSource

_CONSOLE_LINES: Final = 200
_USABLE: Final = (InstanceState.PENDING, InstanceState.RUNNING)

_Connect = Callable[[str], Any]
"""Makes libcloud's connection to a service: ``compute`` or ``network``."""


class OpenStackApi:
    """The compute API of one cloud, and its network API where floating addresses are wanted.

    `judge` is that of `calls`. `placement` says where nodes go.
    """

    has_tokens = False

    def __init__(
        self,
        calls: Calls,
        judge: OpenStackClassifier,
        connect: _Connect,
        nodes: Mapping[str, NodeSettings],
        placement: OpenStackSettings,
    ) -> None:
        self.calls = calls
        self._judge = judge
        self._connect = connect
        self._connections: dict[str, Any] = {}
        self._nodes = nodes
        self._placement = placement
        self._asked: set[str] = set()
        self._floating = FloatingAddresses(
            calls, lambda: self._service("network"), placement.floating_ip_pool
        )

    def offers(self, arch: str) -> Sequence[Offer]:
        """See `CloudApi.offers`."""
        node = self._nodes[arch]
        zones = self._placement.zones or ("",)
        return [Offer(*choice) for choice in product(node.images, node.sizes, zones)]

    def price(self, offer: Offer) -> float | None:
        """None: OpenStack tells no prices."""
        return None

    def examine(self, arch: str) -> Sequence[Finding]:
        """See `CloudApi.examine`."""
        found = examine_openstack(self.calls, self._compute, self._nodes[arch])
        if self._placement.networks and found[0].ok:
            found.append(look("networks", lambda: ", ".join(self._networks())))
        return found

    def launch(self, launch: Launch, offer: Offer) -> Instance:
        """See `CloudApi.launch`."""
        if launch.token in self._asked:
            made = self._adopt(launch)
            if made is not None:
                return made
        body = {"server": self._server(launch, offer)}
        self._asked.add(launch.token)
        answer = self.calls.change("create server", lambda: self._create(body), repeatable=False)
        return Instance(str(answer["id"]), InstanceState.PENDING, tags=dict(launch.tags))

    def find_made(self, launch: Launch) -> Sequence[Instance]:
        """See `CloudApi.find_made`."""
        lease = launch.tags[TAG_LEASE]
        made = [
            item
            for item in self._list(launch.name, is_whole=True)
            if item.tags[TAG_LEASE] == lease and item.state in _USABLE
        ]
        return sorted(made, key=lambda item: (item.created_unix, item.handle))

    def complete(self, instance: Instance) -> None:
        """See `CloudApi.complete`: a floating address, where one is wanted."""
        if self._placement.floating_ip_pool:
            self._floating.attach(instance)

    def find(self, handle: str) -> Instance | None:
        """See `CloudApi.find`."""
        try:
            return self.calls.read(
                f"show server {handle}",
                lambda: self._parse(read_one(self._compute(), f"/servers/{handle}", "server")),
            )
        except NotThere:
            return None

    def list_tagged(self, lease_id: str = "") -> Sequence[Instance]:
        """See `CloudApi.list_tagged`."""
        return [
            item
            for item in self._list(lease_id)
            if item.state is not InstanceState.ENDED
            and (not lease_id or item.tags[TAG_LEASE] == lease_id)
        ]

    def list_leftovers(self, lease_id: str = "") -> Sequence[Leftover]:
        """See `CloudApi.list_leftovers`: floating addresses; all else goes with its server."""
        if not self._placement.floating_ip_pool:
            return []
        found = self._floating.list_ours(lease_id)
        # Listed after the addresses: a server is there before its address is.
        living = {item.tags[TAG_LEASE] for item in self.list_tagged(lease_id)} if found else set()
        return [item for item in found if item.tags[TAG_LEASE] not in living]

    def terminate(self, handle: str) -> None:
        """See `CloudApi.terminate`."""
        with suppress(NotThere):
            self.calls.end(
                f"delete server {handle}",
                lambda: self._compute().request(f"/servers/{handle}", method="DELETE"),
            )

    def remove(self, leftover: Leftover) -> None:
        """See `CloudApi.remove`."""
        self._floating.remove(leftover.handle)

    def console(self, handle: str) -> str:
        """See `CloudApi.console`. Not every cloud lets its users read it."""
        body = {"os-getConsoleOutput": {"length": _CONSOLE_LINES}}
        path = f"/servers/{handle}/action"
        with suppress(NotThere, ConfigError):
            answer = self.calls.read(
                f"read the console of {handle}",
                lambda: self._compute().request(path, method="POST", data=body).object,
            )
            text = answer.get("output") if isinstance(answer, dict) else None
            return text if isinstance(text, str) else ""
        return ""

    def explain_silence(self, handle: str) -> str:
        """See `CloudApi.explain_silence`."""
        groups = ", ".join(self._placement.security_groups) or "default"
        return f"do its security groups ({groups}) admit this machine to port 22?"

    def images(self) -> OpenStackImages:
        """The same cloud's images."""
        return OpenStackImages(self.calls, self._service)

    def _create(self, body: Mapping[str, object]) -> dict[str, Any]:
        compute = self._compute()
        with self.calls.creating(compute):
            return unwrap(compute.request("/servers", method="POST", data=body), "server")

    def _adopt(self, launch: Launch) -> Instance | None:
        """What an earlier call of this launch made: the oldest of it; the others are deleted."""
        made = self.find_made(launch)
        for duplicate in made[1:]:
            self.terminate(duplicate.handle)
        return made[0] if made else None

    def _list(self, name: str, *, is_whole: bool = False) -> list[Instance]:
        """All servers with tags of ours that have `name` in their name, or as their whole name.

        Names have the lease's id in them. The API takes `name` for a regular expression.
        """
        wanted = {"name": name} if name else {}
        found = self.calls.read(
            "list servers",
            lambda: [
                self._parse(server)
                for server in read_all(self._compute(), "/servers/detail", "servers", wanted)
                if not is_whole or server.get("name") == name
            ],
        )
        return [server for server in found if server.tags]

    def _parse(self, server: object) -> Instance:
        return parse_server(server, is_floating_wanted=bool(self._placement.floating_ip_pool))

    def _server(self, launch: Launch, offer: Offer) -> dict[str, object]:
        """The object ``server`` of a request to create one."""
        server: dict[str, object] = {
            "name": launch.name,
            "imageRef": offer.image,
            "flavorRef": offer.size,
            "metadata": dict(launch.tags),
            "user_data": base64.b64encode(launch.user_data.reveal()).decode(),
        }
        if offer.zone:
            server["availability_zone"] = offer.zone
        if self._placement.networks:
            server["networks"] = [{"uuid": network} for network in self._networks()]
        if self._placement.security_groups:
            groups = self._placement.security_groups
            server["security_groups"] = [{"name": group} for group in groups]
        if self._placement.config_drive:
            server["config_drive"] = True
        return server

    def _networks(self) -> list[str]:
        """The ids of the networks wanted, which may be named by id or by name. ConfigError."""
        wanted = self._placement.networks
        if all(map(_is_uuid, wanted)):
            return list(wanted)
        known = self.calls.read(
            "list networks",
            lambda: read_all(self._service("network"), "/v2.0/networks", "networks", {}),
        )
        ids = []
        for name in wanted:
            found = [str(net["id"]) for net in known if name in (net.get("id"), net.get("name"))]
            if len(found) != 1:
                near = get_close_matches(name, [str(net.get("name")) for net in known])
                raise ConfigError(
                    f"{self.calls.service}: {len(found) or 'no'} networks are called {name!r}",
                    hint=f"near names: {', '.join(near)}" if near else "name it by its id",
                )
            ids += found
        return ids

    def _compute(self) -> Any:
        return self._service("compute")

    def _service(self, name: str) -> Any:
        self._judge.check()
        if name not in self._connections:
            self._connections[name] = self._connect(name)
        return self._connections[name]


def make_openstack_api(remote: Remote) -> OpenStackApi:
    """The API that a remote with a table [openstack] means. ConfigError about its credentials."""
    settings = remote.cloud
    if not isinstance(settings, OpenStackSettings):
        raise ConfigError(f"remote {remote.name} has no table [openstack]")
    credentials = read_credentials(settings.cloud, settings.region)
    host = urlsplit(credentials.auth_url).netloc or settings.cloud
    service = f"OpenStack at {host}" + (f" ({credentials.region})" if credentials.region else "")
    tokens: list[TokenSource] = []  # one, once it is needed: it imports libcloud

    def connect(name: str) -> Any:
        from mock_cloud.cloud.apis.openstack_connection import ServiceConnection
        from mock_cloud.cloud.apis.openstack_identity import make_token_source

        if not tokens:
            tokens.append(make_token_source(credentials, ATTEMPT_TIMEOUT_S))
        return ServiceConnection(credentials, tokens[0], name, ATTEMPT_TIMEOUT_S)

    judge = OpenStackClassifier(service, credentials.source)
    return OpenStackApi(Calls(service, judge), judge, connect, remote.nodes, settings)


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


# Whether an OpenStack cloud has what a remote's file names, asked without making anything.
# Paths and keys: the Compute API reference, "Images", "Flavors", "Limits", "Availability zones".
def examine_openstack(
    calls: Calls, compute: Callable[[], Any], node: NodeSettings
) -> list[Finding]:
    """Credentials with the quota first: without them nothing else is asked."""
    found = [look("credentials and quota", lambda: _quota(calls, compute))]
    if not found[0].ok:
        return found
    for kind, handles in (("image", node.images), ("flavor", node.sizes)):
        found += [
            look(f"{kind} {handle}", partial(_named, calls, compute, kind, handle))
            for handle in handles
        ]
    return found


def _quota(calls: Calls, compute: Callable[[], Any]) -> str:
    limits = calls.read("read limits", lambda: read_one(compute(), "/limits", "limits"))
    absolute = limits.get("absolute")
    counts = absolute if isinstance(absolute, dict) else {}
    told = []
    for name, used, most in (
        ("servers", "totalInstancesUsed", "maxTotalInstances"),
        ("cores", "totalCoresUsed", "maxTotalCores"),
        ("MiB of memory", "totalRAMUsed", "maxTotalRAMSize"),
    ):
        now, limit = counts.get(used), counts.get(most)
        if not isinstance(now, int) or not isinstance(limit, int) or limit < 0:
            continue  # -1 is "no limit"
        if now >= limit:
            raise CloudError(
                f"{now} of {limit} {name} are in use", hint="end servers, or ask for more quota"
            )
        told.append(f"{now} of {limit} {name} in use")
    return ", ".join(told) or "accepted; the API tells no limit"


def _named(calls: Calls, compute: Callable[[], Any], kind: str, handle: str) -> str:
    """What the API says of an image or a flavor by its id."""
    try:
        answer = calls.read(
            f"show {kind} {handle}", lambda: read_one(compute(), f"/{kind}s/{handle}", kind)
        )
    except NotThere as error:
        raise ConfigError(f"there is no {kind} {handle}", hint=error.hint) from error
    words = [str(answer.get("name", ""))]
    if kind == "image":
        status = str(answer.get("status", ""))
        if status.upper() != "ACTIVE":
            raise ConfigError(f"image {handle} is {status or 'of no known state'}, not active")
        words.append(status.lower())
    else:
        words += [f"{answer.get('vcpus', '?')} vCPUs", f"{answer.get('ram', '?')} MiB"]
    return ", ".join(words)
