# SPDX-License-Identifier: GPL-2.0-or-later
"""Parameters of EC2's requests: pure. Names are those of Amazon's EC2 API reference."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

from mock_cloud.cloud.apis.adapter import Launch, Offer
from mock_cloud.cloud.apis.ec2_answers import ImageFacts
from mock_cloud.errors import ConfigError
from mock_cloud.settings import Ec2Settings, Reach


def numbered(name: str, values: Sequence[str]) -> dict[str, str]:
    """A list parameter: ``NAME.1``, ``NAME.2``, …"""
    return {f"{name}.{number}": value for number, value in enumerate(values, 1)}


def filters(wanted: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The ``Filter`` parameters for a list."""
    found: dict[str, str] = {}
    for number, (name, values) in enumerate(wanted.items(), 1):
        found[f"Filter.{number}.Name"] = name
        found.update(numbered(f"Filter.{number}.Value", values))
    return found


def launch_parameters(
    launch: Launch, offer: Offer, image: ImageFacts, settings: Ec2Settings
) -> dict[str, str]:
    """RunInstances' parameters for one instance. ConfigError for a group that is not an id.

    A pure function of its arguments: a token counts as the same call only with the same ones.
    """
    parameters = {
        "ImageId": offer.image,
        "InstanceType": offer.size,
        "MinCount": "1",
        "MaxCount": "1",
        "ClientToken": launch.token,
        "UserData": base64.b64encode(launch.user_data.reveal()).decode(),
        # A node that powers itself off is gone: nothing is paid for a stopped disk.
        "InstanceInitiatedShutdownBehavior": "terminate",
        # IMDSv2 only, and one hop: a build in a network namespace of the node gets no answer.
        "MetadataOptions.HttpTokens": "required",
        "MetadataOptions.HttpPutResponseHopLimit": "1",
        "MetadataOptions.HttpEndpoint": "enabled",
        **_network(offer, settings),
        **_volumes(image, settings),
        **_tags(launch, offer),
    }
    if offer.zone:
        parameters["Placement.AvailabilityZone"] = offer.zone
    if offer.spot:
        parameters["InstanceMarketOptions.MarketType"] = "spot"
        parameters["InstanceMarketOptions.SpotOptions.SpotInstanceType"] = "one-time"
        parameters["InstanceMarketOptions.SpotOptions.InstanceInterruptionBehavior"] = "terminate"
    return parameters


def _network(offer: Offer, settings: Ec2Settings) -> dict[str, str]:
    for group in settings.security_groups:
        if not group.startswith("sg-"):
            raise ConfigError(
                f"[ec2] security_groups: {group!r} is a name, and ids are wanted (sg-…)",
                hint="aws ec2 describe-security-groups lists them",
            )
    if not offer.subnet and settings.reach is not Reach.IPV6:
        return numbered("SecurityGroupId", settings.security_groups)
    interface = "NetworkInterface.1"
    parameters = {
        f"{interface}.DeviceIndex": "0",
        f"{interface}.DeleteOnTermination": "true",
        **numbered(f"{interface}.SecurityGroupId", settings.security_groups),
    }
    if offer.subnet:
        parameters[f"{interface}.SubnetId"] = offer.subnet
        # An address of Amazon's own pool: it goes with the instance.
        is_public = str(settings.reach is Reach.PUBLIC).lower()
        parameters[f"{interface}.AssociatePublicIpAddress"] = is_public
    if settings.reach is Reach.IPV6:
        parameters[f"{interface}.Ipv6AddressCount"] = "1"
    return parameters


def _volumes(image: ImageFacts, settings: Ec2Settings) -> dict[str, str]:
    """All volumes of the image go with the instance, whatever the image says."""
    sizes = dict(image.volumes)
    if settings.volume_gib and image.root_device:
        sizes[image.root_device] = str(settings.volume_gib)
    parameters = {}
    for number, (device, size) in enumerate(sizes.items(), 1):
        mapping = f"BlockDeviceMapping.{number}"
        parameters[f"{mapping}.DeviceName"] = device
        parameters[f"{mapping}.Ebs.DeleteOnTermination"] = "true"
        if size:
            parameters[f"{mapping}.Ebs.VolumeSize"] = size
    return parameters


def _tags(launch: Launch, offer: Offer) -> dict[str, str]:
    """Tags at creation, so that there is no moment at which something that we made has none."""
    kinds = ["instance", "volume", "network-interface"]
    if offer.spot:
        kinds.append("spot-instances-request")
    parameters = {}
    for number, kind in enumerate(kinds, 1):
        tags = dict(launch.tags)
        if kind == "instance":
            tags["Name"] = launch.name
        parameters[f"TagSpecification.{number}.ResourceType"] = kind
        for place, (key, value) in enumerate(tags.items(), 1):
            parameters[f"TagSpecification.{number}.Tag.{place}.Key"] = key
            parameters[f"TagSpecification.{number}.Tag.{place}.Value"] = value
    return parameters
