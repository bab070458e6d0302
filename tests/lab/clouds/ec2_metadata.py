# SPDX-License-Identifier: GPL-2.0-or-later
"""What EC2's metadata service tells an instance about itself."""

from __future__ import annotations

import json
import uuid
from xml.etree import ElementTree

from tests.lab.clouds.ec2_xml import text
from tests.lab.clouds.metadata import Tree
from tests.lab.clouds.network import PREFIX_LENGTH, Port


def describe(instance: ElementTree.Element, port: Port, public_key: str) -> Tree:
    """The tree below a version of the API, for one item of RunInstances' answer."""
    name = text(instance, "privateDnsName") or f"ip-{port.address.replace('.', '-')}"
    network = f"{port.address.rpartition('.')[0]}.0/{PREFIX_LENGTH}"
    interface = {
        "device-number": "0",
        "interface-id": "eni-lab",
        "local-hostname": name,
        "local-ipv4s": port.address,
        "mac": port.mac,
        "public-ipv4s": port.address,
        "subnet-ipv4-cidr-block": network,
    }
    zone = text(instance, "placement/availabilityZone")
    tree: dict[str, str | Tree] = {
        "ami-id": text(instance, "imageId"),
        "ami-launch-index": text(instance, "amiLaunchIndex") or "0",
        "hostname": name,
        "instance-id": text(instance, "instanceId"),
        "instance-life-cycle": text(instance, "instanceLifecycle") or "on-demand",
        "instance-type": text(instance, "instanceType"),
        "local-hostname": name,
        "local-ipv4": port.address,
        "mac": port.mac,
        "network": {"interfaces": {"macs": {port.mac: interface}}},
        "placement": {"availability-zone": zone, "region": zone.rstrip("abcdef")},
        "public-ipv4": port.address,
    }
    if public_key:
        tree["public-keys"] = {"0": {"openssh-key": public_key}}
    document = {
        "accountId": "123456789012",
        "availabilityZone": zone,
        "imageId": tree["ami-id"],
        "instanceId": tree["instance-id"],
        "instanceType": tree["instance-type"],
        "privateIp": port.address,
        "region": zone.rstrip("abcdef"),
        "version": "2017-09-30",
    }
    identity = {"document": json.dumps(document, indent=2)}
    return {"dynamic": {"instance-identity": identity}, "meta-data": tree}


def firmware(instance: str) -> dict[str, str]:
    """What instances are told by their firmware; cloud-init knows EC2 by it."""
    number = f"ec2{uuid.uuid5(uuid.NAMESPACE_OID, instance).hex[3:]}"
    text = str(uuid.UUID(number))
    return {
        "DMI_BIOS_VENDOR": "Amazon EC2",
        "DMI_SYSTEM_MANUFACTURER": "Amazon EC2",
        "DMI_SYSTEM_SERIAL_NUMBER": text,
        "DMI_SYSTEM_UUID": text,
    }
