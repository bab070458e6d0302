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
from itertools import product
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

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
from mock_cloud.cloud.apis.openstack_choices import OpenStackChoices
from mock_cloud.cloud.apis.openstack_credentials import read_credentials
from mock_cloud.cloud.apis.openstack_examine import OpenStackExamination
from mock_cloud.cloud.apis.openstack_failures import OpenStackClassifier, read_all, read_one, unwrap
from mock_cloud.cloud.apis.openstack_images import OpenStackImages
from mock_cloud.cloud.apis.openstack_names import OpenStackNames
from mock_cloud.cloud.apis.openstack_servers import parse_server
from mock_cloud.cloud.apis.texts import NotThere
from mock_cloud.cloud.provider import Finding
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

    `classify` is that of `calls`. `placement` says where nodes go.
    """

    has_tokens = False

    def __init__(
        self,
        calls: Calls,
        classify: OpenStackClassifier,
        connect: _Connect,
        nodes: Mapping[str, NodeSettings],
        placement: OpenStackSettings,
    ) -> None:
        self.calls = calls
        self._classifier = classify
        self._connect = connect
        self._connections: dict[str, Any] = {}
        self._nodes = nodes
        self._placement = placement
        self._asked: set[str] = set()
        self._names = OpenStackNames(calls, self._service)
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
        return self._examination().examine(self._nodes[arch])

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

    def complete(self, instance: Instance) -> bool:
        """See `CloudApi.complete`: a floating address, where one is wanted."""
        is_wanted = bool(self._placement.floating_ip_pool)
        if is_wanted:
            self._floating.attach(instance)
        return is_wanted

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
        with suppress(ConfigError, CloudError):
            said = self._examination().explain_groups()
            if said:
                return said
        return f"do its security groups ({groups}) admit this machine to port 22?"

    def choices(self) -> OpenStackChoices:
        """What the cloud has of what a remote's file names."""
        return OpenStackChoices(self.calls, self._service, self._names)

    def images(self) -> OpenStackImages:
        """The same cloud's images."""
        return OpenStackImages(self.calls, self._service)

    def _examination(self) -> OpenStackExamination:
        return OpenStackExamination(self.calls, self._service, self._placement, self._floating)

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
        """All servers with our tags that have `name` in their name, or as their whole name.

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
            "flavorRef": self._names.flavor(offer.size),
            "metadata": dict(launch.tags),
            "user_data": base64.b64encode(launch.user_data.reveal()).decode(),
        }
        image = self._names.image(offer.image)
        if self._placement.volume_gib:
            server["block_device_mapping_v2"] = [
                {
                    "boot_index": 0,
                    "uuid": image,
                    "source_type": "image",
                    "destination_type": "volume",
                    "volume_size": self._placement.volume_gib,
                    "delete_on_termination": True,
                }
            ]
        else:
            server["imageRef"] = image
        if offer.zone:
            server["availability_zone"] = offer.zone
        if self._placement.networks:
            networks = self._names.networks(self._placement.networks)
            server["networks"] = [{"uuid": network} for network in networks]
        if self._placement.security_groups:
            groups = self._placement.security_groups
            server["security_groups"] = [{"name": group} for group in groups]
        if self._placement.config_drive:
            server["config_drive"] = True
        return server

    def _compute(self) -> Any:
        return self._service("compute")

    def _service(self, name: str) -> Any:
        self._classifier.check()
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

    classify = OpenStackClassifier(service, credentials.source)
    return OpenStackApi(Calls(service, classify), classify, connect, remote.nodes, settings)
