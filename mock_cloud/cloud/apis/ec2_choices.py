# SPDX-License-Identifier: GPL-2.0-or-later
"""What EC2 has of what a remote's file names, for somebody who is to choose.

Names are those of Amazon's EC2 API reference. Anybody may publish an image of any name: only those
of known accounts and of one's own are listed, unless another account is named.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from mock_cloud.cloud.apis.ec2_answers import items_at, text_at
from mock_cloud.cloud.apis.ec2_connection import Ec2Connection
from mock_cloud.cloud.apis.ec2_groups import ssh_sources
from mock_cloud.cloud.apis.ec2_requests import filters, numbered
from mock_cloud.cloud.apis.texts import one_line
from mock_cloud.cloud.provider import CloudItem

# As the distributions' own download pages name them.
_PUBLISHERS: Final = {
    "125523088429": "Fedora or CentOS",
    "309956199498": "Red Hat",
    "764336703387": "AlmaLinux",
    "792107900819": "Rocky Linux",
}
# Their images of releases whose package database can be read: not EL 8.
_PATTERNS: Final = (
    "Fedora-Cloud-Base-*", "CentOS Stream *", "RHEL-9.*_HVM-*", "RHEL-1?.*_HVM-*",
    "AlmaLinux OS 9.*", "AlmaLinux OS 1?.*", "Rocky-9-EC2-Base-*", "Rocky-1?-EC2-Base-*",
)  # fmt: skip
_OWN: Final = "self"
_DATE: Final = re.compile(r"20[0-9]{6}")
# Up to the first number that stands by itself: the release.
_RELEASE: Final = re.compile(r".*?(?<![A-Za-z0-9_])[0-9]+")
_SIZES_PAGE: Final = 100  # DescribeInstanceTypes takes no more
_CPUS: Final = ("2", "4", "8", "16")
_OF_A_KIND: Final = 4
_SHOWN: Final = 40


class Ec2Choices:
    """See `Choices`. `price` is of a size by its name, in USD an hour, if it is known."""

    def __init__(self, connection: Ec2Connection, price: Callable[[str], float | None]) -> None:
        self._connection = connection
        self._price = price
        self._lists: Mapping[str, Callable[[str, str], Iterator[CloudItem]]] = {
            "images": self._images,
            "sizes": self._sizes,
            "security_groups": self._groups,
            "subnets": self._subnets,
            "zones": self._zones,
        }

    def find(self, key: str, arch: str, like: str = "") -> Sequence[CloudItem]:
        """See `Choices`."""
        listed = self._lists.get(key)
        return [] if listed is None else list(listed(arch, like))[:_SHOWN]

    def is_search(self, key: str, word: str) -> bool:
        """See `Choices`."""
        return key == "images" and not word.startswith("ami-")

    def _images(self, arch: str, like: str) -> Iterator[CloudItem]:
        """The newest of each release, newest first; with `like`, all of such a name."""
        account, slash, pattern = like.rpartition("/")
        named = {"name": [f"*{pattern}*"]} if pattern else {}
        theirs = named or {"name": list(_PATTERNS)}
        machine = "arm64" if arch == "aarch64" else arch
        wanted = {
            "architecture": [machine], "state": ["available"], "virtualization-type": ["hvm"],
        }  # fmt: skip
        if slash:
            found = [*self._described([account], {**wanted, **named})]
        else:
            found = [*self._described([_OWN], {"state": ["available"], **named})]
            found += self._described(list(_PUBLISHERS), {**wanted, **theirs})
        found.sort(key=lambda item: text_at(item, "creationDate"), reverse=True)
        seen: set[str] = set()
        for item in found:
            if text_at(item, "architecture") not in ("", machine):
                continue
            name, owner = one_line(text_at(item, "name")), text_at(item, "imageOwnerId")
            release = _RELEASE.match(_DATE.sub("", name.replace("x86_64", "")))
            kind = f"{owner} {release[0]}" if release and owner in _PUBLISHERS else name
            if not like and kind in seen:
                continue
            seen.add(kind)
            by = _PUBLISHERS.get(owner, f"account {owner}")
            yield CloudItem(
                text_at(item, "imageId"), f"{name}, by {by}, {text_at(item, 'creationDate')[:10]}"
            )

    def _described(
        self, owners: Sequence[str], wanted: Mapping[str, Sequence[str]]
    ) -> Iterator[ET.Element]:
        parameters = {**filters(wanted), **numbered("Owner", owners)}
        return self._items("DescribeImages", parameters, "imagesSet")

    def _sizes(self, arch: str, _like: str) -> Iterator[CloudItem]:
        """Of each number of CPUs the cheapest ones, without what a build has no use for."""
        wanted = {
            "processor-info.supported-architecture": ["arm64" if arch == "aarch64" else arch],
            "current-generation": ["true"],
            "bare-metal": ["false"],
            "vcpu-info.default-vcpus": _CPUS,
        }
        found: dict[int, list[tuple[float, int, str]]] = {}
        for item in self._items(
            "DescribeInstanceTypes", filters(wanted), "instanceTypeSet", _SIZES_PAGE
        ):
            name, cpus = text_at(item, "instanceType"), text_at(item, "vCpuInfo/defaultVCpus")
            memory = text_at(item, "memoryInfo/sizeInMiB")
            if not (cpus.isdecimal() and memory.isdecimal()) or _has_more(item):
                continue
            if int(memory) >= int(cpus) << 10:
                price = self._price(name)
                row = (float("inf") if price is None else price, int(memory), name)
                found.setdefault(int(cpus), []).append(row)
        for count, rows in sorted(found.items()):
            for price, mib, name in sorted(rows)[:_OF_A_KIND]:
                told = "" if price == float("inf") else f", {price:g} USD an hour"
                yield CloudItem(name, f"{count} CPUs, {mib / 1024:g} GiB{told}")

    def _groups(self, _arch: str, _like: str) -> Iterator[CloudItem]:
        for item in self._items("DescribeSecurityGroups", {}, "securityGroupInfo"):
            sources = ", ".join(list(ssh_sources([item]))[:3])
            told = f"port 22 open to {sources}" if sources else "port 22 is not open"
            name, network = one_line(text_at(item, "groupName")), text_at(item, "vpcId")
            yield CloudItem(text_at(item, "groupId"), f"{name} in {network or 'no VPC'}: {told}")

    def _subnets(self, _arch: str, _like: str) -> Iterator[CloudItem]:
        for item in self._items("DescribeSubnets", {}, "subnetSet"):
            parts = (text_at(item, one) for one in ("availabilityZone", "vpcId", "cidrBlock"))
            yield CloudItem(text_at(item, "subnetId"), ", ".join(parts))

    def _zones(self, _arch: str, _like: str) -> Iterator[CloudItem]:
        answer = self._connection.read("DescribeAvailabilityZones", {})
        for item in items_at(answer, "availabilityZoneInfo"):
            yield CloudItem(text_at(item, "zoneName"), text_at(item, "zoneState"))

    def _items(
        self, action: str, parameters: Mapping[str, str], path: str, page: int | None = None
    ) -> Iterator[ET.Element]:
        for answer in self._connection.read_pages(action, parameters, page=page):
            yield from items_at(answer, path)


def _has_more(item: ET.Element) -> bool:
    """Whether a size has accelerators, which are what it costs."""
    names = (
        "gpuInfo",
        "fpgaInfo",
        "inferenceAcceleratorInfo",
        "neuronInfo",
        "mediaAcceleratorInfo",
    )
    return any(child.tag.rpartition("}")[2] in names and len(child) for child in item)
