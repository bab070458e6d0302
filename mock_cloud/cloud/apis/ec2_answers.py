# SPDX-License-Identifier: GPL-2.0-or-later
"""EC2's answers, parsed: XML in, our own types out. No name space counts, no field is trusted.

Names are those of Amazon's EC2 API reference, version 2016-11-15.
"""

from __future__ import annotations

import base64
import ipaddress
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final

from mock_cloud.cloud.apis.adapter import Instance, InstanceState
from mock_cloud.cloud.apis.tags import parse_tags
from mock_cloud.cloud.apis.texts import one_line
from mock_cloud.settings import Reach
from mock_cloud.wire.dataclass import dataclass

_STATES: Final = {
    "pending": InstanceState.PENDING,
    "running": InstanceState.RUNNING,
    "stopping": InstanceState.STOPPED,
    "stopped": InstanceState.STOPPED,
    "shutting-down": InstanceState.ENDED,
    "terminated": InstanceState.ENDED,
}
# API reference, StateReason: pending → terminated, without an error of RunInstances.
_NO_ROOM: Final = frozenset({"Server.InsufficientInstanceCapacity"})
_HANDLE_LIMIT: Final = 255


class OddAnswer(ValueError):
    """An answer that lacks what it must have; a `ValueError`, as libcloud's own parsers raise."""


@dataclass(frozen=True, slots=True)
class Described:
    """An instance, and what else was told of it. `token` is the one it was launched with."""

    instance: Instance
    token: str
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What a launch must know of an image. `volumes` maps the devices of its EBS volumes to GiB.

    A size is a number as text, empty where the API tells none.
    """

    architecture: str
    root_device: str
    volumes: Mapping[str, str]


def _find(element: ET.Element, path: str) -> ET.Element | None:
    """The first element at `path` (``a/b``), whatever its name space."""
    found: ET.Element | None = element
    for word in path.split("/"):
        if found is None:
            return None
        found = next((child for child in found if _name(child) == word), None)
    return found


def text_at(element: ET.Element, path: str) -> str:
    """The text at `path`; empty if there is none."""
    found = _find(element, path)
    return "" if found is None or found.text is None else found.text.strip()


def items_at(element: ET.Element, path: str) -> Iterator[ET.Element]:
    """The ``item`` elements of the set at `path`; none if there is no such set."""
    found = _find(element, path)
    if found is not None:
        yield from (child for child in found if _name(child) == "item")


def tags_of(element: ET.Element) -> dict[str, str]:
    """The tags of a resource that are ours."""
    items = items_at(element, "tagSet")
    return parse_tags({text_at(item, "key"): text_at(item, "value") for item in items})


def parse_instances(answer: ET.Element) -> list[Described]:
    """All instances of a DescribeInstances answer, or of RunInstances' one reservation."""
    found = [
        parse_instance(item)
        for reservation in items_at(answer, "reservationSet")
        for item in items_at(reservation, "instancesSet")
    ]
    return found + [parse_instance(item) for item in items_at(answer, "instancesSet")]


def parse_instance(item: ET.Element) -> Described:
    """One instance. OddAnswer without an id or a known state."""
    handle, state = text_at(item, "instanceId"), text_at(item, "instanceState/name")
    if not handle.startswith("i-") or len(handle) > _HANDLE_LIMIT or not handle.isascii():
        raise OddAnswer("an instance without an id")
    if state not in _STATES:
        raise OddAnswer(f"an instance in the unknown state {one_line(state, 40)!r}")
    instance = Instance(
        handle,
        _STATES[state],
        tags_of(item),
        _addresses(item),
        _reason(item),
        _unix(text_at(item, "launchTime")),
        text_at(item, "stateReason/code") in _NO_ROOM,
    )
    groups = tuple(text_at(group, "groupId") for group in items_at(item, "groupSet"))
    return Described(instance, text_at(item, "clientToken"), groups)


def parse_image(answer: ET.Element) -> ImageFacts | None:
    """The one image of a DescribeImages answer; None if it is empty."""
    item = next(items_at(answer, "imagesSet"), None)
    if item is None:
        return None
    volumes = {
        text_at(mapping, "deviceName"): text_at(mapping, "ebs/volumeSize")
        for mapping in items_at(item, "blockDeviceMapping")
        if _find(mapping, "ebs") is not None and text_at(mapping, "deviceName")
    }
    return ImageFacts(text_at(item, "architecture"), text_at(item, "rootDeviceName"), volumes)


def parse_error(body: str) -> str:
    """``CODE: message`` of an error's body; empty if it is none of the API's."""
    try:
        error = _find(ET.fromstring(body), "Errors/Error")  # noqa: S314 (expat ≥ 2.4.1 bounds it)
    except (ET.ParseError, LookupError, ValueError):  # an encoding that it names, but nobody knows
        return ""
    code = "" if error is None else text_at(error, "Code")
    return "" if error is None or not code else f"{code}: {text_at(error, 'Message')}"


def parse_console(answer: ET.Element) -> str:
    """The text of a GetConsoleOutput answer; empty if there is none yet."""
    try:
        output = base64.b64decode(text_at(answer, "output"))
    except ValueError as error:  # binascii.Error, or text that is not ASCII
        raise OddAnswer("console output that is not base64") from error
    return output.decode(errors="replace")


def tagged_resources(answer: ET.Element) -> dict[str, dict[str, str]]:
    """Of a DescribeTags answer: the tags it shows, by the id of what they are on."""
    found: dict[str, dict[str, str]] = {}
    for item in items_at(answer, "tagSet"):
        tags = found.setdefault(text_at(item, "resourceId"), {})
        tags[text_at(item, "key")] = text_at(item, "value")
    return found


def _addresses(item: ET.Element) -> Mapping[Reach, str]:
    interfaces = [
        text_at(address, "ipv6Address")
        for interface in items_at(item, "networkInterfaceSet")
        for address in items_at(interface, "ipv6AddressesSet")
    ]
    told = {
        Reach.PUBLIC: text_at(item, "ipAddress"),
        Reach.PRIVATE: text_at(item, "privateIpAddress"),
        Reach.IPV6: text_at(item, "ipv6Address") or next(iter(interfaces), ""),
    }
    return {reach: address for reach, address in told.items() if _is_address(address)}


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _reason(item: ET.Element) -> str:
    code, message = text_at(item, "stateReason/code"), text_at(item, "stateReason/message")
    if not message:
        return one_line(text_at(item, "reason") or code)
    return one_line(message if not code or message.startswith(code) else f"{code}: {message}")


def _unix(text: str) -> float:
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError):
        return 0.0


def _name(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]
