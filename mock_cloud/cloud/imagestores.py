# SPDX-License-Identifier: GPL-2.0-or-later
"""Which providers' clouds can make and share images, by the name that a remote's file uses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from mock_cloud.cloud.images import ImageStore
from mock_cloud.errors import ConfigError
from mock_cloud.settings import Remote

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
