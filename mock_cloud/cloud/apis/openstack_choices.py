# SPDX-License-Identifier: GPL-2.0-or-later
"""What an OpenStack cloud has of what a remote's file names, for somebody who is to choose.

Paths and keys: Compute API reference ("Flavors", "Availability zones"), Image service API v2
("Images"), Networking API v2.0 ("Networks", "Security groups").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from mock_cloud.cloud.apis.calls import Calls
from mock_cloud.cloud.apis.openstack_failures import read_all
from mock_cloud.cloud.apis.openstack_names import OpenStackNames
from mock_cloud.cloud.apis.texts import one_line
from mock_cloud.cloud.provider import CloudItem

_SHOWN: Final = 40
_ARCH: Final = "architecture"  # "Useful image properties" in Glance's manual


class OpenStackChoices:
    """See `Choices`."""

    def __init__(self, calls: Calls, service: Callable[[str], Any], names: OpenStackNames) -> None:
        self._calls = calls
        self._service = service
        self._names = names
        self._lists: Mapping[str, Callable[[str], Iterator[CloudItem]]] = {
            "images": self._images,
            "sizes": self._flavors,
            "networks": self._networks,
            "floating_ip_pool": self._pools,
            "security_groups": self._groups,
            "zones": self._zones,
        }

    def find(self, key: str, arch: str, like: str = "") -> Sequence[CloudItem]:
        """See `Choices`."""
        listed = self._lists.get(key)
        return [] if listed is None else list(listed(arch))[:_SHOWN]

    def is_search(self, key: str, word: str) -> bool:
        """See `Choices`: names and ids look alike here."""
        return False

    def _images(self, arch: str) -> Iterator[CloudItem]:
        found = self._names.all_images()
        for one in sorted(found, key=lambda one: str(one.get("created_at")), reverse=True):
            if one.get(_ARCH) in (None, "", arch):
                text = f"{one_line(str(one.get('name')))}, {str(one.get('created_at'))[:10]}"
                yield CloudItem(str(one["id"]), text)

    def _flavors(self, _arch: str) -> Iterator[CloudItem]:
        found = self._list("compute", "/flavors/detail", "flavors")
        for one in sorted(found, key=lambda one: (int(one["vcpus"]), int(one["ram"]))):
            disk = f"{one['disk']} GiB disk" if one.get("disk") else "no disk: needs volume_gib"
            text = f"{one_line(str(one['name']))}, {one['vcpus']} CPUs, {one['ram']} MiB, {disk}"
            yield CloudItem(str(one["id"]), text)

    def _networks(self, _arch: str) -> Iterator[CloudItem]:
        for one in self._names.all_networks():
            if not one.get("router:external"):
                yield CloudItem(str(one["id"]), one_line(str(one.get("name"))))

    def _pools(self, _arch: str) -> Iterator[CloudItem]:
        for one in self._names.all_networks():
            if one.get("router:external"):
                name = one_line(str(one.get("name")))
                yield CloudItem(name, f"external network {one['id']}")

    def _groups(self, _arch: str) -> Iterator[CloudItem]:
        for one in self._list("network", "/v2.0/security-groups", "security_groups"):
            name = one_line(str(one.get("name")))
            yield CloudItem(name, one_line(str(one.get("description") or "")) or str(one["id"]))

    def _zones(self, _arch: str) -> Iterator[CloudItem]:
        for one in self._list("compute", "/os-availability-zone", "availabilityZoneInfo"):
            state = one.get("zoneState") or {}
            yield CloudItem(
                str(one["zoneName"]), "available" if state.get("available") else "not available"
            )

    def _list(self, service: str, path: str, key: str) -> list[dict[str, Any]]:
        return self._calls.read(f"list {key}", lambda: read_all(self._service(service), path, key))
