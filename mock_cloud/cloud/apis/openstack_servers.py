# SPDX-License-Identifier: GPL-2.0-or-later
"""What the compute API tells of a server, as an instance. Pure; ValueError for what it can't be.

Field names and states: Compute API reference, "Servers" (GET /servers/detail).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from mock_cloud.cloud.apis.adapter import Instance, InstanceState
from mock_cloud.cloud.apis.tags import parse_tags
from mock_cloud.settings import Reach

_STATES: Final = {
    "ACTIVE": InstanceState.RUNNING,
    "PASSWORD": InstanceState.RUNNING,
    "MIGRATING": InstanceState.RUNNING,
    "RESIZE": InstanceState.RUNNING,
    "VERIFY_RESIZE": InstanceState.RUNNING,
    "SHUTOFF": InstanceState.STOPPED,
    "PAUSED": InstanceState.STOPPED,
    "SUSPENDED": InstanceState.STOPPED,
    "RESCUE": InstanceState.STOPPED,
    "SHELVED": InstanceState.STOPPED,
    "SHELVED_OFFLOADED": InstanceState.STOPPED,
    "ERROR": InstanceState.FAILED,
    "DELETED": InstanceState.ENDED,
    "SOFT_DELETED": InstanceState.ENDED,
}
"""Others are on their way: BUILD, REBUILD, REBOOT, HARD_REBOOT, UNKNOWN, and what is to come."""

NO_HOST: Final = "no valid host"
"""What Nova's scheduler says when no hypervisor has room, mostly as the fault of an ERROR."""

_PUBLIC_LABELS: Final = ("public", "internet")
"""Names of networks whose addresses are public whatever they look like (Rackspace's among them)."""


def parse_server(server: Any, *, is_floating_wanted: bool = False) -> Instance:
    """One server of an answer, with those of its metadata that are mock-cloud's tags.

    Where a floating address is wanted, no other one counts as public.
    """
    if not isinstance(server, dict):
        raise ValueError("a server is not an object")
    handle, status = server.get("id"), server.get("status")
    if not isinstance(handle, str) or not handle or not isinstance(status, str):
        raise ValueError("a server lacks its id or status")
    metadata = server.get("metadata")
    reason = _reason(server, status)
    return Instance(
        handle,
        _state(status, server.get("OS-EXT-STS:task_state")),
        tags=parse_tags(metadata if isinstance(metadata, dict) else {}),
        addresses=_addresses(server, is_floating_wanted=is_floating_wanted),
        reason=reason,
        created_unix=_unix(server.get("created")),
        lacks_capacity=NO_HOST in reason.lower(),
    )


def _state(status: str, task: object) -> InstanceState:
    # Its status stays ACTIVE until it is gone; should deleting it fail, it becomes ERROR.
    if task == "deleting":
        return InstanceState.ENDED
    return _STATES.get(status, InstanceState.PENDING)


def _reason(server: Mapping[str, Any], status: str) -> str:
    fault = server.get("fault")
    message = fault.get("message") if isinstance(fault, dict) else None
    return message if isinstance(message, str) and message else status


def _addresses(server: Mapping[str, Any], *, is_floating_wanted: bool) -> dict[Reach, str]:
    """One address for each reach; a floating one goes before a fixed one."""
    found: dict[Reach, str] = {}
    for label, is_floating, address in _listed(server):
        if address.is_link_local:
            continue
        if address.version == 6:
            found.setdefault(Reach.IPV6, str(address))
        elif is_floating:
            found[Reach.PUBLIC] = str(address)
        elif label not in _PUBLIC_LABELS and not address.is_global:
            found.setdefault(Reach.PRIVATE, str(address))
        elif not is_floating_wanted:
            found.setdefault(Reach.PUBLIC, str(address))
    return found


def _listed(
    server: Mapping[str, Any],
) -> Iterator[tuple[str, bool, ipaddress.IPv4Address | ipaddress.IPv6Address]]:
    networks = server.get("addresses")
    for label, items in networks.items() if isinstance(networks, dict) else ():
        for item in items:
            address = ipaddress.ip_address(item["addr"])
            yield label, item.get("OS-EXT-IPS:type") == "floating", address


def _unix(text: object) -> float:
    """Seconds of ``2026-01-31T23:59:59Z``; 0 for anything else."""
    try:
        return datetime.fromisoformat(str(text).replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError):
        return 0.0
