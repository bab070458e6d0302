# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether an OpenStack cloud has what a remote's file names, asked without making anything.

Paths and keys: Compute API reference ("Images", "Flavors", "Limits", "Availability zones"),
Networking API v2.0 ("Security groups", "Quotas", "Quotas details extension").
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

from mock_cloud.cloud.apis.calls import Calls
from mock_cloud.cloud.apis.openstack_addresses import FloatingAddresses
from mock_cloud.cloud.apis.openstack_failures import read_all, read_one, unwrap
from mock_cloud.cloud.apis.openstack_names import OpenStackNames
from mock_cloud.cloud.apis.texts import NotThere
from mock_cloud.cloud.provider import Finding, look
from mock_cloud.errors import CloudError, ConfigError
from mock_cloud.model import SSH_PORT
from mock_cloud.settings import NodeSettings, OpenStackSettings

_COUNTED: Final = (
    ("servers", "totalInstancesUsed", "maxTotalInstances"),
    ("cores", "totalCoresUsed", "maxTotalCores"),
    ("MiB of memory", "totalRAMUsed", "maxTotalRAMSize"),
)
_NO_GROUPS: Final = ("default",)


class OpenStackExamination:
    """Asks the services of one cloud, for one remote's settings."""

    def __init__(
        self,
        calls: Calls,
        service: Callable[[str], Any],
        placement: OpenStackSettings,
        floating: FloatingAddresses,
    ) -> None:
        self._calls = calls
        self._service = service
        self._placement = placement
        self._floating = floating
        self._names = OpenStackNames(calls, service)
        self._left: dict[str, int] = {}

    def examine(self, node: NodeSettings) -> list[Finding]:
        """Credentials with the quota first: without them nothing else is asked."""
        placement = self._placement
        found = [look("credentials and quota", self._quota)]
        if not found[0].ok:
            return found
        found += [look(f"image {one}", partial(self._image, one)) for one in node.images]
        found += [look(f"flavor {one}", partial(self._flavor, one)) for one in node.sizes]
        if placement.zones:
            found.append(look("zones", self._zones))
        if placement.networks:
            found.append(look("networks", self._networks))
        if placement.security_groups:
            found.append(self._groups())
        if placement.floating_ip_pool:
            found.append(look("floating addresses", self._pool))
        return found

    def explain_groups(self) -> str:
        """What the security groups of a node say of port 22, if it is nothing; else empty."""
        names = self._placement.security_groups or _NO_GROUPS
        sources = self._sources(names)
        return (
            "" if sources else f"no rule of its security groups ({', '.join(names)}) opens port 22"
        )

    def _quota(self) -> str:
        limits = self._calls.read(
            "read limits", lambda: read_one(self._compute(), "/limits", "limits")
        )
        absolute = limits.get("absolute")
        counts = absolute if isinstance(absolute, dict) else {}
        told = []
        for name, used, most in _COUNTED:
            now, limit = counts.get(used), counts.get(most)
            if not isinstance(now, int) or not isinstance(limit, int) or limit < 0:
                continue  # -1 is "no limit"
            if now >= limit:
                raise CloudError(
                    f"{now} of {limit} {name} are in use", hint="end servers, or ask for more quota"
                )
            self._left[name] = limit - now
            told.append(f"{now} of {limit} {name} in use")
        return ", ".join(told) or "accepted; the API tells no limit"

    def _image(self, wanted: str) -> str:
        handle = self._names.image(wanted)
        answer = self._show("image", handle, "name:PATTERN in place of an id takes the newest")
        status = str(answer.get("status", ""))
        if status.upper() != "ACTIVE":
            raise ConfigError(f"image {handle} is {status or 'of no known state'}, not active")
        return ", ".join(
            [str(answer.get("name", "")), status.lower(), *([] if handle == wanted else [handle])]
        )

    def _flavor(self, wanted: str) -> str:
        """ConfigError for one without disk, where nodes get no volume; CloudError by quota."""
        flavor = self._show("flavor", self._names.flavor(wanted), "name:NAME in place of an id")
        needed = {"cores": flavor.get("vcpus"), "MiB of memory": flavor.get("ram")}
        told = f"{flavor.get('vcpus', '?')} vCPUs, {flavor.get('ram', '?')} MiB"
        if flavor.get("disk") == 0 and not self._placement.volume_gib:
            raise ConfigError(
                f"flavor {wanted} has no disk of its own ({told})",
                hint="volume_gib in [openstack] gives nodes a volume to boot from",
            )
        for name, amount in needed.items():
            left = self._left.get(name)
            if isinstance(amount, int) and left is not None and amount > left:
                raise CloudError(
                    f"flavor {wanted} needs {amount} {name}, and {left} are left of the quota",
                    hint="end servers, ask for more quota, or name a smaller size",
                )
        return f"{flavor.get('name', '')}, {told}"

    def _zones(self) -> str:
        answer = self._calls.read(
            "list availability zones",
            lambda: read_all(self._compute(), "/os-availability-zone", "availabilityZoneInfo"),
        )
        known = {
            str(zone.get("zoneName")): bool(_table(zone.get("zoneState")).get("available"))
            for zone in answer
        }
        for zone in self._placement.zones:
            if not known.get(zone):
                state = "not available" if zone in known else "not there"
                raise ConfigError(
                    f"zone {zone} is {state}",
                    hint=f"there are: {', '.join(one for one, ok in known.items() if ok)}",
                )
        return ", ".join(self._placement.zones)

    def _networks(self) -> str:
        """With what is left of ports, which every server takes one of for each network."""
        found = self._names.networks(self._placement.networks, is_checked=True)
        return ", ".join(found) + self._count("port", "ports", len(found))

    def _pool(self) -> str:
        return f"{self._floating.find_pool()}{self._count('floatingip', 'addresses', 1)}"

    def _groups(self) -> Finding:
        """That they are there, and whether they open port 22: a network may filter nothing."""
        what, names = "security groups", self._placement.security_groups
        try:
            sources = self._sources(names)
        except (ConfigError, CloudError) as error:
            return Finding(what, False, error.message, error.hint or "")
        if sources:
            return Finding(what, True, f"port {SSH_PORT} is open to {', '.join(sources[:5])}")
        return Finding(
            what,
            True,
            f"{', '.join(names)}: no rule opens port {SSH_PORT}",
            f"openstack security group rule create --dst-port {SSH_PORT} {names[0]}",
        )

    def _sources(self, names: Sequence[str]) -> list[str]:
        """Who may reach port 22 by the rules of these groups. ConfigError if one is not there."""
        known = self._calls.read(
            "list security groups",
            lambda: read_all(self._service("network"), "/v2.0/security-groups", "security_groups"),
        )
        sources: list[str] = []
        for name in names:
            group = next((one for one in known if name in (one.get("id"), one.get("name"))), None)
            if group is None:
                there = [str(one.get("name")) for one in known]
                near = difflib.get_close_matches(name, there) or there
                raise ConfigError(
                    f"there is no security group {name!r}", hint=f"there are: {', '.join(near)}"
                )
            rules = group.get("security_group_rules")
            sources += [
                _source(rule) for rule in (rules if isinstance(rules, list) else []) if _opens(rule)
            ]
        return list(dict.fromkeys(sources))

    def _count(self, key: str, name: str, needed: int) -> str:
        """What is left of a quota of the network API, where it tells; CloudError if too little."""
        quota: Mapping[str, Any] = {}
        with suppress(ConfigError, CloudError):  # not every cloud has the extension
            quota = self._calls.read("read the network quota", self._network_quota)
        counts = _table(quota.get(key))
        limit, used, kept = counts.get("limit"), counts.get("used"), counts.get("reserved", 0)
        if not isinstance(limit, int) or not isinstance(used, int) or limit < 0:
            return ""
        if limit - used - (kept if isinstance(kept, int) else 0) < needed:
            raise CloudError(
                f"{used} of {limit} {name} are in use", hint=f"give {name} back, or ask for more"
            )
        return f"; {used} of {limit} {name} in use"

    def _network_quota(self) -> dict[str, Any]:
        network = self._service("network")
        own = unwrap(network.request("/v2.0/quotas/tenant"), "tenant")["tenant_id"]
        return unwrap(network.request(f"/v2.0/quotas/{own}/details.json"), "quota")

    def _show(self, kind: str, handle: str, hint: str) -> dict[str, Any]:
        try:
            return self._calls.read(
                f"show {kind} {handle}",
                lambda: read_one(self._compute(), f"/{kind}s/{handle}", kind),
            )
        except NotThere as error:
            raise ConfigError(f"there is no {kind} {handle}", hint=hint) from error

    def _compute(self) -> Any:
        return self._service("compute")


def _opens(rule: object) -> bool:
    """Whether a rule lets somebody in to port 22."""
    found = _table(rule)
    low, high = found.get("port_range_min"), found.get("port_range_max")
    is_tcp = str(found.get("protocol") or "tcp").lower() in ("tcp", "any", "6", "0")
    is_port = low is None or (isinstance(low, int) and low <= SSH_PORT <= (high or low))
    # A rule for members of the same group is none for us.
    return (
        found.get("direction") == "ingress"
        and is_tcp
        and is_port
        and not found.get("remote_group_id")
    )


def _source(rule: object) -> str:
    found = _table(rule)
    anywhere = "0.0.0.0/0" if found.get("ethertype") == "IPv4" else "::/0"
    return str(found.get("remote_ip_prefix") or anywhere)


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
