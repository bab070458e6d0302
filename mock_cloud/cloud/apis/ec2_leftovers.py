# SPDX-License-Identifier: GPL-2.0-or-later
"""What can outlive an instance on EC2: found by its tags, removed if nothing needs it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from mock_cloud.cloud.apis.adapter import (
    TAG_EXPIRES,
    TAG_LEASE,
    TAG_OWNER,
    TAG_REMOTE,
    Instance,
    Leftover,
)
from mock_cloud.cloud.apis.ec2_answers import items_at, tagged_resources, text_at
from mock_cloud.cloud.apis.ec2_connection import Ec2Connection
from mock_cloud.cloud.apis.ec2_failures import InUse, NotThere
from mock_cloud.cloud.apis.ec2_requests import filters
from mock_cloud.cloud.apis.tags import parse_tags


@dataclass(frozen=True, slots=True)
class _Kind:
    """One kind of resource: how it is removed, and how one sees that nothing needs it.

    Without `describe` only an attempt to remove it tells. `free` is the text at `state` of one
    that nothing needs.
    """

    remove: str
    parameter: str
    describe: str = ""
    id_filter: str = ""
    items: str = ""
    state: str = ""
    free: str = ""


_KINDS: Final = {
    "volume": _Kind(
        "DeleteVolume", "VolumeId", "DescribeVolumes", "volume-id", "volumeSet", "status",
        "available",
    ),
    "network-interface": _Kind(
        "DeleteNetworkInterface", "NetworkInterfaceId", "DescribeNetworkInterfaces",
        "network-interface-id", "networkInterfaceSet", "status", "available",
    ),
    "elastic-ip": _Kind(
        "ReleaseAddress", "AllocationId", "DescribeAddresses", "allocation-id", "addressesSet",
        "associationId", "",
    ),
    "spot-instances-request": _Kind(
        "CancelSpotInstanceRequests", "SpotInstanceRequestId.1", "DescribeSpotInstanceRequests",
        "spot-instance-request-id", "spotInstanceRequestSet", "state", "open",
    ),
    "key-pair": _Kind("DeleteKeyPair", "KeyPairId"),
    "security-group": _Kind("DeleteSecurityGroup", "GroupId"),
}  # fmt: skip
"""By the API's word for it. The first and the last but one are made with instances at most; the
others are not made at all, and removed if they have a lease's tag from elsewhere."""


def list_leftovers(
    connection: Ec2Connection, lease_id: str, list_instances: Callable[[str], Sequence[Instance]]
) -> list[Leftover]:
    """Whatever has our tags, is no instance, and that no living instance's lease has.

    One call where nothing is left: DescribeTags sees all kinds at once.
    """
    resources = _tagged(connection, lease_id)
    if not resources:
        return []
    living = {instance.tags[TAG_LEASE] for instance in list_instances(lease_id)}
    candidates = [item for item in resources if item.tags[TAG_LEASE] not in living]
    found = []
    for kind in _KINDS:
        of_kind = [item for item in candidates if item.kind == kind]
        if of_kind:
            found += _free(connection, of_kind)
    return found


def remove_leftover(connection: Ec2Connection, leftover: Leftover) -> None:
    """Remove it. Done if it is gone; if something still needs it, it is another sweep's."""
    kind = _KINDS[leftover.kind]
    try:
        connection.end(kind.remove, {kind.parameter: leftover.handle})
    except (NotThere, InUse):
        return


def _tagged(connection: Ec2Connection, lease_id: str) -> list[Leftover]:
    wanted: dict[str, Sequence[str]] = {"resource-type": list(_KINDS)}
    if lease_id:
        # Of a resource's tags the answer then shows the one that has this value.
        wanted |= {"key": [TAG_LEASE], "value": [lease_id]}
    else:
        wanted |= {"key": [TAG_LEASE, TAG_OWNER, TAG_REMOTE, TAG_EXPIRES]}
    found: dict[tuple[str, str], dict[str, str]] = {}
    for answer in connection.read_pages("DescribeTags", filters(wanted)):
        for resource, tags in tagged_resources(answer).items():
            found.setdefault(resource, {}).update(tags)
    return [
        Leftover(kind, handle, tags)
        for (kind, handle), tags in found.items()
        if kind in _KINDS and handle and (tags.get(TAG_LEASE) == lease_id or parse_tags(tags))
    ]


def _free(connection: Ec2Connection, items: Iterable[Leftover]) -> list[Leftover]:
    """Those of one kind that nothing needs any more, as far as the API tells."""
    by_handle = {item.handle: item for item in items}
    kind = _KINDS[next(iter(by_handle.values())).kind]
    if not kind.describe:
        return list(by_handle.values())
    wanted = filters({kind.id_filter: list(by_handle)})
    answer = connection.read(kind.describe, wanted)
    id_path = kind.parameter.partition(".")[0]
    id_path = id_path[0].lower() + id_path[1:]
    free = (
        text_at(item, id_path)
        for item in items_at(answer, kind.items)
        if text_at(item, kind.state) == kind.free
    )
    return [by_handle[handle] for handle in free if handle in by_handle]
