# SPDX-License-Identifier: GPL-2.0-or-later
"""Images of nodes, as far as APIs agree on them: made, listed, shared, deleted.

An image's name is unique and is its manifest's name too; its tags say more to its owner (no API
shows tags to those an image is shared with). An image that is not finished yet carries the tag of
its bake; what stays behind of a bake that died is found by it. A finished image is nobody's
lease: no sweep touches it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from enum import Enum
from typing import Final, Protocol

from mock_cloud.cloud.provider import OnPhase
from mock_cloud.errors import CloudError, ConfigError
from mock_cloud.settings import Remote
from mock_cloud.wire.dataclass import dataclass

TAG_BAKE: Final = "mock-cloud-bake"
"""Which bake makes it; gone once the image is finished."""
TAG_OWNER: Final = "mock-cloud-owner"
TAG_MANIFEST: Final = "mock-cloud-manifest"
"""sha256 (hex) of the manifest that belongs to it."""
TAG_BASE: Final = "mock-cloud-base"
"""The API's id of the image that it was made from."""
TAG_ARCH: Final = "mock-cloud-arch"
TAG_CREATED: Final = "mock-cloud-created"

OUR_TAGS: Final = (TAG_BAKE, TAG_OWNER, TAG_MANIFEST, TAG_BASE, TAG_ARCH, TAG_CREATED)

_LOOK_EVERY_S: Final = 2.0


class ImageState(Enum):
    """Where an image is in its life, whatever the API calls it."""

    PENDING = "pending"
    AVAILABLE = "available"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Image:
    """One image as the API tells of it. `tags` are mock-cloud's; `reason` is the API's own word.

    `sharing` has the accounts that may use it; `is_public` goes for everybody.
    """

    handle: str
    name: str
    state: ImageState
    tags: Mapping[str, str] = field(default_factory=dict)
    sharing: tuple[str, ...] = ()
    is_public: bool = False
    reason: str = ""


class ImageStore(Protocol):
    """One API's images, for one remote. CloudError, ConfigError."""

    service: str
    """What messages call the API."""
    acceptance: str
    """What those an image is shared with must do before they see it; empty: nothing."""

    def create(self, instance: str, name: str, tags: Mapping[str, str]) -> str:
        """Start to make an image of an instance's disk, consistently; the image's handle.

        The instance may be rebooted for it, or stopped. With a `name` that an earlier call of
        ours used, that call's image.
        """

    def find(self, handle: str) -> Image | None:
        """The image, ours or shared with us; None if the API knows none (any more, or yet)."""

    def list(self) -> Sequence[Image]:
        """This account's images with mock-cloud's tags, unfinished ones too."""

    def tag(self, handle: str, tags: Mapping[str, str], *, remove: Sequence[str] = ()) -> None:
        """Set tags of an image that we made, and take some off. Idempotent."""

    def share(self, handle: str, accounts: Sequence[str], *, public: bool) -> None:
        """Let accounts, or everybody, use an image that we made. Idempotent."""

    def delete(self, handle: str) -> None:
        """Remove an image that we made and the storage behind it. Idempotent."""


def wait_until_available(
    store: ImageStore, handle: str, *, timeout_s: float, on_phase: OnPhase
) -> Image:
    """The image once it can be used. CloudError if it fails or takes too long."""
    deadline = time.monotonic() + timeout_s
    while True:
        image = store.find(handle)
        if image is not None and image.state is ImageState.AVAILABLE:
            return image
        if image is not None and image.state is ImageState.FAILED:
            raise CloudError(
                f"{store.service} could not make the image {handle}: {image.reason or 'no reason'}",
                hint="bake again",
            )
        if time.monotonic() >= deadline:
            raise CloudError(
                f"{store.service}: the image {handle} was not available after {timeout_s:g} s",
                hint="large disks take longer: raise --image-timeout",
            )
        on_phase(f"{handle} is {'pending' if image else 'not listed yet'}")
        time.sleep(_LOOK_EVERY_S)


# A command loads the cloud that it asks, and no other.


def _ec2(remote: Remote) -> ImageStore:
    from mock_cloud.cloud.apis.ec2 import make_ec2_api

    return make_ec2_api(remote).images()


def _openstack(remote: Remote) -> ImageStore:
    from mock_cloud.cloud.apis.openstack import make_openstack_api

    return make_openstack_api(remote).images()


STORES: Final[Mapping[str, Callable[[Remote], ImageStore]]] = {"ec2": _ec2, "openstack": _openstack}

_WHY_NOT: Final = {
    "local": "its nodes boot a tree on this machine: mock-cloud known-good make",
    "rackspace": "its API can neither tag nor share one",
    "ssh": "its hosts are their owners'",
}


def find_image_store(remote: Remote) -> ImageStore:
    """The images of the cloud that `remote` is of. ConfigError if it has none, with the reason."""
    make = STORES.get(remote.provider)
    if make is None:
        why = _WHY_NOT.get(remote.provider, "libcloud has no common way to share one")
        raise ConfigError(
            f"remote {remote.name}: the provider {remote.provider} has no images to bake or share:"
            f" {why}",
            hint=f"providers with images: {', '.join(STORES)}",
        )
    return make(remote)
