# SPDX-License-Identifier: GPL-2.0-or-later
"""Images of EC2: AMIs, and the snapshots behind them.

Names are those of Amazon's EC2 API reference. The tags of an AMI are seen by its own account only.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

from mock_cloud.cloud.apis.ec2_answers import OddAnswer, items_at, text_at
from mock_cloud.cloud.apis.ec2_connection import Ec2Connection
from mock_cloud.cloud.apis.ec2_failures import InUse
from mock_cloud.cloud.apis.ec2_requests import filters, numbered
from mock_cloud.cloud.apis.texts import NotThere, OutcomeUnknown, one_line
from mock_cloud.cloud.images import OUR_TAGS, Image, ImageState

_STATES: Final = {
    "pending": ImageState.PENDING,
    "transient": ImageState.PENDING,
    "available": ImageState.AVAILABLE,
}


class Ec2Images:
    """See `ImageStore`. One region's images."""

    acceptance = ""

    def __init__(self, connection: Ec2Connection) -> None:
        self._connection = connection
        self.service = connection.calls.service

    def create(self, instance: str, name: str, tags: Mapping[str, str]) -> str:
        """See `ImageStore`. EC2 shuts the instance down for it, and boots it again."""
        parameters = {
            "InstanceId": instance,
            "Name": name,
            "NoReboot": "false",
            "TagSpecification.1.ResourceType": "image",
            **_tag_parameters("TagSpecification.1.", tags),
        }
        try:
            answer = self._connection.change("CreateImage", parameters, repeatable=False)
        except OutcomeUnknown:
            # There is no token, but an account has each name once.
            made = next((image for image in self.list() if image.name == name), None)
            if made is None:
                raise
            return made.handle
        handle = text_at(answer, "imageId")
        if not handle.startswith("ami-"):
            raise OddAnswer("an image without an id")
        return handle

    def find(self, handle: str) -> Image | None:
        """See `ImageStore`."""
        image = next(iter(self._images({"image-id": [handle]})), None)
        if image is None or not image.tags:
            return image
        return replace(image, sharing=self._accounts(handle))

    def list(self) -> Sequence[Image]:
        """See `ImageStore`."""
        found = self._images({"tag-key": OUR_TAGS}, {"Owner.1": "self"})
        return [replace(image, sharing=self._accounts(image.handle)) for image in found]

    def tag(self, handle: str, tags: Mapping[str, str], *, remove: Sequence[str] = ()) -> None:
        """See `ImageStore`. The snapshots behind the image get the same tags."""
        resources = numbered("ResourceId", [handle, *self._snapshots(handle)])
        if tags:
            parameters = {**resources, **_tag_parameters("", tags)}
            self._connection.change("CreateTags", parameters, repeatable=True)
        if remove:
            keys = {f"Tag.{number}.Key": key for number, key in enumerate(remove, 1)}
            self._connection.change("DeleteTags", {**resources, **keys}, repeatable=True)

    def share(self, handle: str, accounts: Sequence[str], *, public: bool) -> None:
        """See `ImageStore`. `accounts` are AWS account numbers of twelve digits."""
        parameters = {"ImageId": handle}
        for number, account in enumerate(accounts, 1):
            parameters[f"LaunchPermission.Add.{number}.UserId"] = account
        if public:
            parameters[f"LaunchPermission.Add.{len(accounts) + 1}.Group"] = "all"
        self._connection.change("ModifyImageAttribute", parameters, repeatable=True)

    def delete(self, handle: str) -> None:
        """See `ImageStore`. Snapshots can go only after the image that needs them."""
        snapshots = self._snapshots(handle)
        if self.find(handle) is not None:
            with suppress(NotThere):
                self._connection.end("DeregisterImage", {"ImageId": handle})
        for snapshot in snapshots:
            with suppress(NotThere, InUse):
                self._connection.end("DeleteSnapshot", {"SnapshotId": snapshot})

    def _images(
        self, wanted: Mapping[str, Sequence[str]], others: Mapping[str, str] | None = None
    ) -> Sequence[Image]:
        # By filter even for one id: what is not there is then an empty list and no error.
        return [_parse_image(item) for item in self._items({**filters(wanted), **(others or {})})]

    def _items(self, parameters: Mapping[str, str]) -> Sequence[ET.Element]:
        pages = self._connection.read_pages("DescribeImages", parameters)
        return [item for page in pages for item in items_at(page, "imagesSet")]

    def _accounts(self, handle: str) -> tuple[str, ...]:
        parameters = {"ImageId": handle, "Attribute": "launchPermission"}
        answer = self._connection.read("DescribeImageAttribute", parameters)
        found = (text_at(item, "userId") for item in items_at(answer, "launchPermission"))
        return tuple(sorted(filter(None, found)))

    def _snapshots(self, handle: str) -> Sequence[str]:
        found = (
            text_at(mapping, "ebs/snapshotId")
            for item in self._items(filters({"image-id": [handle]}))
            for mapping in items_at(item, "blockDeviceMapping")
        )
        return [snapshot for snapshot in found if snapshot]


def _tag_parameters(prefix: str, tags: Mapping[str, str]) -> dict[str, str]:
    parameters = {}
    for number, (key, value) in enumerate(sorted(tags.items()), 1):
        parameters[f"{prefix}Tag.{number}.Key"] = key
        parameters[f"{prefix}Tag.{number}.Value"] = value
    return parameters


def _parse_image(item: ET.Element) -> Image:
    """One image of a list. OddAnswer without an id."""
    handle = text_at(item, "imageId")
    if not handle.startswith("ami-"):
        raise OddAnswer("an image without an id")
    tags = {text_at(tag, "key"): text_at(tag, "value") for tag in items_at(item, "tagSet")}
    return Image(
        handle,
        one_line(text_at(item, "name")),
        _STATES.get(text_at(item, "imageState"), ImageState.FAILED),
        {key: tags[key] for key in OUR_TAGS if key in tags},
        is_public=text_at(item, "isPublic") == "true",
        reason=one_line(text_at(item, "stateReason/message")),
    )
