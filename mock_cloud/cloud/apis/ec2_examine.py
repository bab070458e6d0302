# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether EC2 has what a remote's file names, asked without making anything.

Names are those of Amazon's EC2 API reference. Limits are told by another service, which is not
asked: Service Quotas.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from mock_cloud.cloud.apis.ec2_answers import items_at, text_at
from mock_cloud.cloud.apis.ec2_connection import Ec2Connection
from mock_cloud.cloud.apis.ec2_failures import WouldSucceed
from mock_cloud.cloud.apis.ec2_groups import explain_rules, ssh_sources
from mock_cloud.cloud.apis.ec2_requests import filters, numbered
from mock_cloud.cloud.provider import Finding, look
from mock_cloud.errors import CloudError, ConfigError
from mock_cloud.settings import Ec2Settings, NodeSettings

_COUNTED: Final = ("pending", "running")


def examine_ec2(
    connection: Ec2Connection,
    settings: Ec2Settings,
    node: NodeSettings,
    check_image: Callable[[str], str],
    order: Callable[[], Mapping[str, str]],
) -> list[Finding]:
    """Credentials first: without them nothing else is asked. `check_image` describes an image.

    `order` makes the parameters of the RunInstances that a build would begin with.
    """
    found = [look("credentials", lambda: _credentials(connection, settings))]
    if not found[0].ok:
        return found
    found += [look(f"image {image}", partial(check_image, image)) for image in node.images]
    found.append(look("sizes", lambda: _sizes(connection, settings, node.sizes)))
    if settings.subnets:
        found.append(look("subnets", lambda: _subnets(connection, settings.subnets)))
    if settings.security_groups:
        found.append(look("security groups", lambda: _groups(connection, settings.security_groups)))
    found.append(look("instances", lambda: _running(connection)))
    if all(one.ok for one in found):
        found.append(look("starting a node", lambda: _start(connection, order())))
    return found


def _start(connection: Ec2Connection, order: Mapping[str, str]) -> str:
    """A dry run, which EC2 answers with an error in any case: rights to start and to tag."""
    try:
        connection.read("RunInstances", {**order, "DryRun": "true"})
    except WouldSucceed:
        return f"{order['InstanceType']} may be started and tagged, says a dry run"
    raise CloudError("a dry run was answered as if it were none")


def _credentials(connection: Ec2Connection, settings: Ec2Settings) -> str:
    answer = connection.read("DescribeAvailabilityZones", {})
    zones = [text_at(item, "zoneName") for item in items_at(answer, "availabilityZoneInfo")]
    unknown = [zone for zone in settings.zones if zone not in zones]
    if unknown:
        raise ConfigError(
            f"region {settings.region} has no zone {', '.join(unknown)}",
            hint=f"it has: {', '.join(zones)}",
        )
    return f"from {connection.source}; {len(zones)} zones"


def _sizes(connection: Ec2Connection, settings: Ec2Settings, sizes: Sequence[str]) -> str:
    """Each size must be sold in one of the zones wanted at least."""
    wanted = filters({"instance-type": sizes})
    if settings.zones:
        wanted = filters({"instance-type": sizes, "location": settings.zones})
    parameters = {"LocationType": "availability-zone", **wanted}
    sold: dict[str, set[str]] = {size: set() for size in sizes}
    for answer in connection.read_pages("DescribeInstanceTypeOfferings", parameters):
        for item in items_at(answer, "instanceTypeOfferingSet"):
            sold.setdefault(text_at(item, "instanceType"), set()).add(text_at(item, "location"))
    absent = [size for size in sizes if not sold[size]]
    if absent:
        where = f"zones {', '.join(settings.zones)}" if settings.zones else settings.region
        raise ConfigError(f"{where}: no {', '.join(absent)} is sold there")
    return "; ".join(f"{size} in {', '.join(sorted(sold[size]))}" for size in sizes)


def _subnets(connection: Ec2Connection, subnets: Sequence[str]) -> str:
    answer = connection.read("DescribeSubnets", numbered("SubnetId", subnets))
    return "; ".join(
        f"{text_at(item, 'subnetId')} in {text_at(item, 'availabilityZone')},"
        f" {text_at(item, 'availableIpAddressCount')} addresses free"
        for item in items_at(answer, "subnetSet")
    )


def _groups(connection: Ec2Connection, groups: Sequence[str]) -> str:
    answer = connection.read("DescribeSecurityGroups", numbered("GroupId", groups))
    sources = list(ssh_sources(items_at(answer, "securityGroupInfo")))
    # Who we are to the node is not known before it has an address: only what the rules say.
    problem = explain_rules(groups, sources, "")
    if problem and not sources:
        raise ConfigError(problem, hint="admit this machine's address to tcp port 22")
    return f"port 22 is open to {', '.join(sources[:5])}"


def _running(connection: Ec2Connection) -> str:
    """EC2 itself tells no limit any more: its old one, max-instances, says nothing of vCPUs."""
    wanted = filters({"instance-state-name": _COUNTED})
    running = sum(
        1
        for page in connection.read_pages("DescribeInstances", wanted)
        for reservation in items_at(page, "reservationSet")
        for _ in items_at(reservation, "instancesSet")
    )
    return f"{running} run in this region; how many vCPUs may, AWS's Service Quotas tells"
