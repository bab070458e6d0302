# SPDX-License-Identifier: GPL-2.0-or-later
"""What can outlive an instance on EC2: found by its tags, removed if nothing needs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from mock_cloud.cloud.apis.adapter import TAG_EXPIRES, TAG_LEASE, TAG_REMOTE, Instance, Leftover
from mock_cloud.cloud.apis.ec2_answers import items_at, tagged_resources, text_at
from mock_cloud.cloud.apis.ec2_connection import Ec2Connection
from mock_cloud.cloud.apis.ec2_failures import InUse
from mock_cloud.cloud.apis.ec2_requests import filters
from mock_cloud.cloud.apis.tags import parse_tags
from mock_cloud.cloud.apis.texts import NotThere
from mock_cloud.cloud.images import TAG_OWNER
from mock_cloud.wire.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class _Kind:
    """One kind of resource: how it is removed, and how one sees that nothing needs it.

    `free` is the text at `state` of one that nothing needs; both empty: an attempt tells.
    """

    name: str
    remove: str
    parameter: str
    describe: str
    id_filter: str
    items: str
    state: str = ""
    free: str = ""


_KINDS: Final = {
    "vol": _Kind(
        "volume", "DeleteVolume", "VolumeId",
        "DescribeVolumes", "volume-id", "volumeSet", "status", "available",
    ),
    "eni": _Kind(
        "network-interface", "DeleteNetworkInterface", "NetworkInterfaceId",
        "DescribeNetworkInterfaces", "network-interface-id", "networkInterfaceSet", "status",
        "available",
    ),
    "eipalloc": _Kind(
        "elastic-ip", "ReleaseAddress", "AllocationId",
        "DescribeAddresses", "allocation-id", "addressesSet", "associationId", "",
    ),
    "sir": _Kind(
        "spot-instances-request", "CancelSpotInstanceRequests", "SpotInstanceRequestId.1",
        "DescribeSpotInstanceRequests", "spot-instance-request-id", "spotInstanceRequestSet",
        "state", "open",
    ),
    "sg": _Kind(
        "security-group", "DeleteSecurityGroup", "GroupId",
        "DescribeSecurityGroups", "group-id", "securityGroupInfo",
    ),
}  # fmt: skip
"""By the first word of a resource's id. Addresses and groups are not made here; one with a lease's
tag is somebody's who made it for that lease. Groups go last: others may be in them."""


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
    for kind in _KINDS.values():
        of_kind = {item.handle: item for item in candidates if item.kind == kind.name}
        if of_kind:
            found += _free(connection, kind, of_kind)
    return found


def remove_leftover(connection: Ec2Connection, leftover: Leftover) -> None:
    """Remove it. Done if it is gone; if something still needs it, it is another sweep's."""
    kind = _KINDS[_prefix(leftover.handle)]
    try:
        connection.end(kind.remove, {kind.parameter: leftover.handle})
    except (NotThere, InUse):
        return


def _tagged(connection: Ec2Connection, lease_id: str) -> list[Leftover]:
    """All resources with our tags, of one lease or of all; those of one lease have all tags too."""
    wanted = {"key": [TAG_LEASE, TAG_OWNER, TAG_REMOTE, TAG_EXPIRES]}
    if lease_id:
        # Of a resource's tags the answer shows the one that has this value, and no owner.
        shown = _read_tags(connection, {"key": [TAG_LEASE], "value": [lease_id]})
        if not shown:
            return []
        wanted["resource-id"] = list(shown)
    found = _read_tags(connection, wanted)
    return [
        Leftover(_KINDS[_prefix(handle)].name, handle, tags)
        for handle, tags in found.items()
        if parse_tags(tags)
    ]


def _read_tags(
    connection: Ec2Connection, wanted: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, str]]:
    """Tags by the id of what they are on, of the kinds that can outlive an instance."""
    found: dict[str, dict[str, str]] = {}
    for answer in connection.read_pages("DescribeTags", filters(wanted)):
        for handle, tags in tagged_resources(answer).items():
            if _prefix(handle) in _KINDS:
                found.setdefault(handle, {}).update(tags)
    return found


def _free(connection: Ec2Connection, kind: _Kind, items: Mapping[str, Leftover]) -> list[Leftover]:
    """Those of one kind, by handle, that nothing needs any more, as far as the API tells."""
    answer = connection.read(kind.describe, filters({kind.id_filter: list(items)}))
    name = kind.parameter.partition(".")[0]
    free = (
        text_at(item, f"{name[0].lower()}{name[1:]}")
        for item in items_at(answer, kind.items)
        if not kind.state or text_at(item, kind.state) == kind.free
    )
    return [items[handle] for handle in free if handle in items]


def _prefix(handle: str) -> str:
    return handle.partition("-")[0]
