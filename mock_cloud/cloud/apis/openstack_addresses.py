# SPDX-License-Identifier: GPL-2.0-or-later
"""Floating addresses: taken from a pool for a server, and given back when it is gone.

The network API does not tie one to a server's life: it is found again by its description, which
holds the tags. Paths and fields: Networking API v2.0, "Floating IPs" and "Ports".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from mock_cloud.cloud.apis.adapter import TAG_LEASE, Instance, Leftover
from mock_cloud.cloud.apis.calls import Calls
from mock_cloud.cloud.apis.openstack_failures import read_all
from mock_cloud.cloud.apis.tags import format_line, parse_line
from mock_cloud.cloud.apis.texts import NotThere, OutcomeUnknown
from mock_cloud.errors import ConfigError

KIND: Final = "floating IP"

_PATH: Final = "/v2.0/floatingips"
_DESCRIPTION_LIMIT: Final = 255


class FloatingAddresses:
    """Our floating addresses. `network` connects to the network service when called."""

    def __init__(self, calls: Calls, network: Callable[[], Any], pool: str) -> None:
        self._calls = calls
        self._network = network
        self._pool = pool
        self._pool_id = ""

    def attach(self, instance: Instance) -> None:
        """Give a server an address, once it has a port. Idempotent: call it until it has one."""
        ports = self._list("/v2.0/ports", "ports", device_id=instance.handle)
        if not ports:
            return
        port_id = str(ports[0]["id"])
        ours = self.list_ours(instance.tags[TAG_LEASE])
        if ours:
            self._put(ours[0].handle, port_id)
            return
        body = {
            "floating_network_id": self.find_pool(),
            "port_id": port_id,
            "description": format_line(instance.tags, _DESCRIPTION_LIMIT),
        }
        try:
            self._calls.change(
                "create floating IP",
                lambda: self._network().request(_PATH, method="POST", data={"floatingip": body}),
                repeatable=False,
            )
        except OutcomeUnknown:
            return  # the next call finds it by its description, if it was made

    def list_ours(self, lease_id: str = "") -> list[Leftover]:
        """Those with our tags, of this lease or of all, whether or not their server lives."""
        found = []
        for item in self._list(_PATH, "floatingips"):
            tags = parse_line(item.get("description"))
            if tags and lease_id in ("", tags[TAG_LEASE]):
                found.append(Leftover(KIND, str(item["id"]), tags))
        return found

    def remove(self, handle: str) -> None:
        """Give one back. Idempotent."""
        try:
            self._calls.end(
                "delete floating IP",
                lambda: self._network().request(f"{_PATH}/{handle}", method="DELETE"),
            )
        except NotThere:
            return

    def _put(self, handle: str, port_id: str) -> None:
        self._calls.change(
            "attach floating IP",
            lambda: self._network().request(
                f"{_PATH}/{handle}", method="PUT", data={"floatingip": {"port_id": port_id}}
            ),
            repeatable=True,
        )

    def find_pool(self) -> str:
        """The external network that the pool is, by name or id. ConfigError."""
        if not self._pool_id:
            pools = self._list("/v2.0/networks", "networks", **{"router:external": "True"})
            for pool in pools:
                if self._pool in (pool.get("id"), pool.get("name")):
                    self._pool_id = str(pool["id"])
                    return self._pool_id
            names = ", ".join(sorted(str(pool.get("name")) for pool in pools)) or "none"
            raise ConfigError(
                f"{self._calls.service} has no floating IP pool {self._pool!r}",
                hint=f"external networks that may be named as floating_ip_pool: {names}",
            )
        return self._pool_id

    def _list(self, path: str, key: str, **wanted: str) -> Sequence[dict[str, Any]]:
        return self._calls.read(f"list {key}", lambda: read_all(self._network(), path, key, wanted))
