# SPDX-License-Identifier: GPL-2.0-or-later
"""EC2's XML: reading and changing moto's answers, and answers of our own."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from tests.lab.clouds.faults import Exchange, Fault, Response

_XML = {"Content-Type": "text/xml;charset=UTF-8"}
_NAMESPACE = re.compile(rb'xmlns="http://ec2\.amazonaws\.com/doc/[^"]*"')
_REQUEST_ID = "59dbff89-35bd-4eac-99ed-be587EXAMPLE"
_ADDRESSES = ("privateIpAddress", "ipAddress", "publicIp")

Element = ElementTree.Element


def set_namespace(body: bytes, version: str) -> bytes:
    """`body` in the name space of API `version`, with the slash at its end that moto forgets."""
    name = f'xmlns="http://ec2.amazonaws.com/doc/{version}/"'.encode()
    return _NAMESPACE.sub(name, body, count=1)


def error(status: int, code: str, message: str) -> Response:
    """An error as EC2 words it."""
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<Response><Errors><Error>'
        f"<Code>{escape(code)}</Code><Message>{escape(message)}</Message>"
        f"</Error></Errors><RequestID>{_REQUEST_ID}</RequestID></Response>"
    )
    return Response(status, body.encode(), _XML)


def failing(status: int, code: str, message: str = "") -> Fault:
    """A fault: always this error."""
    return lambda exchange: error(status, code, message or code)


def throttled() -> Fault:
    return failing(503, "RequestLimitExceeded", "Request limit exceeded.")


def no_capacity() -> Fault:
    text = "We currently do not have sufficient capacity for the instance type you requested."
    return failing(500, "InsufficientInstanceCapacity", text)


def over_quota() -> Fault:
    text = "You have requested more vCPU capacity than your current vCPU limit of 8 allows"
    return failing(400, "VcpuLimitExceeded", text)


def not_found() -> Fault:
    """What a list says of an instance that it has not heard of yet."""
    return failing(400, "InvalidInstanceID.NotFound", "The instance ID does not exist")


def expired() -> Fault:
    return failing(400, "RequestExpired", "Request has expired.")


def no_right(action: str) -> Fault:
    text = (
        "You are not authorized to perform this operation. User: arn:aws:iam::1:user/lab is not"
        f" authorized to perform: ec2:{action} on resource: arn:aws:ec2:us-east-1:1:instance/*"
        f" because no identity-based policy allows the ec2:{action} action. Encoded authorization"
        f" failure message: {'kM9x_' * 200}"
    )
    return failing(403, "UnauthorizedOperation", text)


def image_state(state: str, reason: str = "") -> Fault:
    """A fault for DescribeImages: all images of this account are in that state."""

    def change(exchange: Exchange) -> Response:
        response = exchange.forward()
        root = ElementTree.fromstring(response.body)  # noqa: S314 (moto's own)
        for item in root.iter():
            if _tag(item) == "imageState":
                item.text = state
            elif _tag(item) == "item" and find(item, "imageState") is not None and reason:
                set_reason(item, "Client.InternalError", reason)
        return replace(response, body=to_bytes(root))

    return change


def page(body: bytes, start: int, length: int) -> bytes:
    """Entries of a list from number `start` on, `length` at most, and a token if there are more."""
    root = ElementTree.fromstring(body)  # noqa: S314 (moto's own)
    for found in root:
        entries = [child for child in found if _tag(child) == "item"]
        for number, child in enumerate(entries):
            if not start <= number < start + length:
                found.remove(child)
        if start + length < len(entries):
            space = root.tag.rpartition("}")[0]
            token = ElementTree.SubElement(root, f"{space}}}nextToken" if space else "nextToken")
            token.text = f"from-{start + length}"
    return to_bytes(root)


def empty_list() -> Fault:
    """No instances at all, from a part of the cloud that lags behind."""

    def lag(exchange: Exchange) -> Response:
        version = exchange.request.parameters.get("Version", "2016-11-15")
        return _answer("DescribeInstances", version, "<reservationSet/>")

    return lag


def _answer(action: str, version: str, inner: str) -> Response:
    body = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<{action}Response '
        f'xmlns="http://ec2.amazonaws.com/doc/{version}/"><requestId>{_REQUEST_ID}</requestId>'
        f"{inner}</{action}Response>"
    )
    return Response(200, body.encode(), _XML)


def console_output(version: str, instance: str, output: bytes) -> Response:
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    inner = (
        f"<instanceId>{escape(instance)}</instanceId><timestamp>{now}</timestamp>"
        f"<output>{base64.b64encode(output).decode()}</output>"
    )
    return _answer("GetConsoleOutput", version, inner)


def listed(parameters: Mapping[str, str], name: str) -> list[str]:
    """The values of a list parameter: ``InstanceId.1``, ``InstanceId.2``, …"""
    return [value for key, value in parameters.items() if re.fullmatch(rf"{name}\.\d+", key)]


def instances(body: bytes) -> list[Element]:
    return list(instances_in(ElementTree.fromstring(body)))  # noqa: S314 (moto's own)


def instances_in(root: Element) -> Iterator[Element]:
    """The items that describe instances, in RunInstances' answer or DescribeInstances'."""
    for item in root.iter():
        if _tag(item) == "instancesSet":
            yield from item


def instance_ids(response: Response) -> list[str]:
    if response.status != 200:
        return []
    return [text(item, "instanceId") for item in instances(response.body)]


def image_id(body: bytes) -> str:
    root = ElementTree.fromstring(body)  # noqa: S314 (moto's own)
    return next(item.text or "" for item in root.iter() if _tag(item) == "imageId")


def find(element: Element, path: str) -> Element | None:
    """The first element at `path`, whatever the name space."""
    found: Element | None = element
    for word in path.split("/"):
        children = [] if found is None else list(found)
        found = next((child for child in children if _tag(child) == word), None)
    return found


def text(element: Element, path: str) -> str:
    found = find(element, path)
    return "" if found is None else (found.text or "")


def set_state(instance: Element, name: str, code: str) -> None:
    for path, value in (("instanceState/name", name), ("instanceState/code", code)):
        found = find(instance, path)
        if found is not None:
            found.text = value


def set_reason(instance: Element, code: str, message: str) -> None:
    """Why the instance is no longer what it was."""
    for name in ("stateReason", "reason"):
        old = find(instance, name)
        if old is not None:
            instance.remove(old)
    space = instance.tag.rpartition("}")[0]
    prefix = f"{space}}}" if space else ""
    reason = ElementTree.SubElement(instance, f"{prefix}stateReason")
    ElementTree.SubElement(reason, f"{prefix}code").text = code
    ElementTree.SubElement(reason, f"{prefix}message").text = message
    ElementTree.SubElement(instance, f"{prefix}reason").text = message


def set_addresses(instance: Element, address: str) -> None:
    for item in instance.iter():
        if _tag(item) in _ADDRESSES:
            item.text = address


def remove_addresses(instance: Element) -> None:
    """A terminated instance has none, and one without a node shall show none."""
    for name in ("privateIpAddress", "ipAddress", "networkInterfaceSet"):
        found = find(instance, name)
        if found is not None:
            instance.remove(found)


def to_bytes(root: Element) -> bytes:
    space = root.tag.partition("}")[0].lstrip("{")
    if space:
        ElementTree.register_namespace("", space)
    data: bytes = ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True)
    return data


def _tag(element: Element) -> str:
    return element.tag.rpartition("}")[2]
