# SPDX-License-Identifier: GPL-2.0-or-later
"""Images of OpenStack: made by the compute service, kept and shared by the image service.

Image Service API v2 (Glance), Compute API "Create Image (createImage Action)". Our tags are
properties of the image.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from mock_cloud.cloud.apis.calls import Calls
from mock_cloud.cloud.apis.openstack_failures import read_one
from mock_cloud.cloud.apis.texts import NotThere, OutcomeUnknown
from mock_cloud.cloud.images import OUR_TAGS, TAG_BAKE, TAG_MANIFEST, Image, ImageState
from mock_cloud.errors import CloudError, ConfigError

_STATES: Final = {
    "queued": ImageState.PENDING,
    "saving": ImageState.PENDING,
    "importing": ImageState.PENDING,
    "uploading": ImageState.PENDING,
    "active": ImageState.AVAILABLE,
}
_FOR_ALL: Final = ("public", "community")
_PROJECT: Final = re.compile(r"[0-9a-f]{32}|[0-9a-f-]{36}|[0-9]{1,20}")
"""Keystone's ids; some clouds number their projects. A name is accepted by Glance, to no use."""
_PATCH: Final = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
_PAGES_MAX: Final = 200
_STOP_TIMEOUT_S: Final = 120.0
_LOOK_EVERY_S: Final = 1.0

_Connect = Callable[[str], Any]
"""libcloud's connection to a service: ``compute`` or ``image``."""


class OpenStackImages:
    """See `ImageStore`."""

    acceptance = "their projects list it after openstack image set --accept {image}"

    def __init__(self, calls: Calls, connect: _Connect) -> None:
        self._calls = calls
        self._connect = connect
        self.service = calls.service

    def create(self, instance: str, name: str, tags: Mapping[str, str]) -> str:
        """See `ImageStore.create`. The server is stopped first and stays so."""
        self._stop(instance)
        body = {"createImage": {"name": name, "metadata": dict(tags)}}
        path = f"/servers/{instance}/action"
        try:
            answer = self._calls.change(
                f"make an image of {instance}",
                lambda: self._connect("compute").request(path, method="POST", data=body),
                repeatable=False,
            )
        except OutcomeUnknown:
            made = next((image for image in self.list() if image.name == name), None)
            if made is None:
                raise
            return made.handle
        # Up to microversion 2.44 the answer has no body: the image's URL is a header.
        handle = str(answer.headers.get("location", "")).rstrip("/").rpartition("/")[2]
        if not handle:
            raise CloudError(f"{self.service}: the answer to createImage names no image")
        return handle

    def find(self, handle: str) -> Image | None:
        """See `ImageStore.find`."""
        try:
            found = self._get(f"/v2/images/{handle}", f"show image {handle}")
        except NotThere:
            return None
        return self._with_members(found)

    def list(self) -> Sequence[Image]:
        """See `ImageStore.list`. Properties are anybody's word: they only say what to show."""
        found: list[Mapping[str, Any]] = []
        path = "/v2/images?limit=200"
        for _ in range(_PAGES_MAX):
            page = self._get(path, "list images")
            images = page.get("images")
            if not isinstance(images, list) or not all(isinstance(one, dict) for one in images):
                raise CloudError(f"{self.service}: the list of images is not one")
            found += images
            path = str(page.get("next") or "")
            if not path:
                break
        return [self._with_members(one) for one in found if {TAG_BAKE, TAG_MANIFEST} & one.keys()]

    def tag(self, handle: str, tags: Mapping[str, str], *, remove: Sequence[str] = ()) -> None:
        """See `ImageStore.tag`."""
        there = self._get(f"/v2/images/{handle}", f"show image {handle}")
        changes = [
            {"op": "replace" if key in there else "add", "path": f"/{key}", "value": value}
            for key, value in sorted(tags.items())
        ]
        changes += [{"op": "remove", "path": f"/{key}"} for key in remove if key in there]
        self._patch(handle, changes)

    def share(self, handle: str, accounts: Sequence[str], *, public: bool) -> None:
        """See `ImageStore.share`. `accounts` are ids of projects.

        For everybody it becomes a community image, which its owner may do without being
        the cloud's administrator. One that is for everybody needs no members, and takes none.
        """
        for account in accounts:
            if not _PROJECT.fullmatch(account):
                raise ConfigError(
                    f"{self.service}: {account!r} is not the id of a project",
                    hint="its members see it with: openstack project show -c id -f value NAME",
                )
        there = self._get(f"/v2/images/{handle}", f"show image {handle}")
        visibility = there.get("visibility")
        wanted = "community" if public else "shared"
        if visibility not in (wanted, *_FOR_ALL):
            self._patch(handle, [{"op": "replace", "path": "/visibility", "value": wanted}])
            visibility = wanted
        if visibility in _FOR_ALL:
            return
        members = self._members(handle)
        for account in accounts:
            if account not in members:
                self._change(
                    f"share {handle}", "POST", f"/v2/images/{handle}/members", {"member": account}
                )

    def delete(self, handle: str) -> None:
        """See `ImageStore.delete`."""
        with suppress(NotThere):
            self._calls.end(
                f"delete image {handle}",
                lambda: self._connect("image").request(f"/v2/images/{handle}", method="DELETE"),
            )

    def _stop(self, instance: str) -> None:
        """Off, so that its disk is whole. CloudError if it does not go off in time."""
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        status = self._status(instance)
        if status == "ACTIVE":
            self._calls.change(
                f"stop {instance}", lambda: self._order_stop(instance), repeatable=True
            )
        while status != "SHUTOFF":
            if status != "ACTIVE" or time.monotonic() > deadline:
                raise CloudError(f"{self.service}: {instance} did not stop: it is {status}")
            time.sleep(_LOOK_EVERY_S)
            status = self._status(instance)

    def _order_stop(self, instance: str) -> None:
        path = f"/servers/{instance}/action"
        self._connect("compute").request(path, method="POST", data={"os-stop": None})

    def _status(self, instance: str) -> str:
        server = self._calls.read(
            f"show server {instance}",
            lambda: read_one(self._connect("compute"), f"/servers/{instance}", "server"),
        )
        return str(server.get("status"))

    def _with_members(self, raw: Mapping[str, Any]) -> Image:
        """Of images that are private or for everybody Glance refuses to tell the members."""
        image = _parse(raw)
        if not image.tags or raw.get("visibility") != "shared":
            return image
        return replace(image, sharing=self._members(image.handle))

    def _members(self, handle: str) -> tuple[str, ...]:
        """The projects an image is shared with; none if only its owner is told."""
        try:
            answer = self._get(f"/v2/images/{handle}/members", f"list the members of {handle}")
        except (NotThere, ConfigError):
            return ()
        members = answer.get("members")
        if not isinstance(members, list):
            raise CloudError(f"{self.service}: the members of {handle} are no list")
        return tuple(sorted(str(one.get("member_id")) for one in members if isinstance(one, dict)))

    def _get(self, path: str, what: str) -> Mapping[str, Any]:
        answer = self._calls.read(what, lambda: self._connect("image").request(path).object)
        if not isinstance(answer, dict):
            raise CloudError(f"{self.service}: {what}: the answer is not an object")
        return answer

    def _patch(self, handle: str, changes: Sequence[Mapping[str, str]]) -> None:
        if changes:
            self._change(f"change {handle}", "PATCH", f"/v2/images/{handle}", list(changes), _PATCH)

    def _change(
        self,
        what: str,
        method: str,
        path: str,
        body: object,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._calls.change(
            what,
            lambda: self._connect("image").request(
                path, method=method, data=body, headers=dict(headers or {})
            ),
            repeatable=True,
        )


def _parse(raw: Mapping[str, Any]) -> Image:
    tags = {key: raw[key] for key in OUR_TAGS if key in raw}
    return Image(
        str(raw.get("id", "")),
        str(raw.get("name") or ""),
        _STATES.get(str(raw.get("status")), ImageState.FAILED),
        {key: value for key, value in tags.items() if isinstance(value, str)},
        is_public=raw.get("visibility") in _FOR_ALL,
        reason=str(raw.get("status")),
    )
