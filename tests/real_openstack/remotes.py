# SPDX-License-Identifier: GPL-2.0-or-later
"""A user of the real OpenStack: clouds.yaml, remotes, orders, and what is left of them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mock_cloud.cloud.apis.adapter import (
    TAG_EXPIRES,
    TAG_LEASE,
    TAG_REMOTE,
    Instance,
    InstanceState,
    Launch,
)
from mock_cloud.cloud.apis.openstack import OpenStackApi, make_openstack_api
from mock_cloud.cloud.images import TAG_OWNER
from mock_cloud.model import Secret
from mock_cloud.settings import AttestSettings, NodeSettings, OpenStackSettings, Reach, Remote
from tests.real_openstack.cloud import RealOpenStack

OWNER = "me@here:0"
BASIC = OpenStackSettings(cloud="lab", networks=("inside",), reach=Reach.PRIVATE)
_ACTIVE_TIMEOUT_S = _PATIENCE_S = 600.0


class OpenStackUser:
    """One user with a home directory of their own."""

    def __init__(self, cloud: RealOpenStack, home: Path, numbers: Iterator[int]) -> None:
        self.cloud = cloud
        self.seeded = cloud.seeded
        self._home = home
        self._numbers = numbers

    def own_clouds(self) -> dict[str, dict[str, Any]]:
        """Entries: "lab" by application credential, "password" and "other" by password."""
        url, region = self.seeded["keystone"], self.seeded["region"]
        credential = self.seeded["credential"]
        entries: dict[str, dict[str, Any]] = {
            "lab": {
                "auth_type": "v3applicationcredential",
                "auth": {
                    "auth_url": url,
                    "application_credential_id": credential["id"],
                    "application_credential_secret": credential["secret"],
                },
            }
        }
        for name, project in (("password", "builds"), ("other", "other")):
            entries[name] = {
                "auth": {
                    "auth_url": url,
                    "username": project,
                    "password": self.seeded[project]["password"],
                    "project_name": project,
                    "user_domain_id": "default",
                    "project_domain_id": "default",
                }
            }
        return {name: {**entry, "region_name": region} for name, entry in entries.items()}

    def write_clouds(self, entries: Mapping[str, object]) -> None:
        path = self._home / ".config/openstack/clouds.yaml"
        path.write_text(json.dumps({"clouds": dict(entries)}))

    def api(
        self,
        *,
        images: tuple[str, ...] = (),
        sizes: tuple[str, ...] = ("name:lab.small",),
        **changes: Any,
    ) -> OpenStackApi:
        """The product's own adapter, for a remote of these settings.

        It asks for longer than a user's: all services share this machine with the tests.
        """
        api = make_openstack_api(self.remote(images=images, sizes=sizes, **changes))
        api.calls._longest_s = _PATIENCE_S
        return api

    def remote(
        self,
        *,
        images: tuple[str, ...] = (),
        sizes: tuple[str, ...] = ("name:lab.small",),
        **changes: Any,
    ) -> Remote:
        node = NodeSettings(images or (self.seeded["image"],), sizes)
        return Remote(
            "lab", "openstack", ("x86_64",), AttestSettings(Path("manifest"), (), ()),
            cloud=replace(BASIC, **changes), nodes={"x86_64": node}, source=Path("/lab.toml"),
        )  # fmt: skip

    def order(self, lease: str = "") -> Launch:
        lease = lease or f"{int(time.time()):x}{next(self._numbers):04x}"
        tags = {TAG_LEASE: lease, TAG_OWNER: OWNER, TAG_REMOTE: "lab", TAG_EXPIRES: "1900000000"}
        return Launch(f"mock-cloud-{lease}", f"{lease}-0-0", Secret(b"#cloud-config\n{}\n"), tags)

    def launch(self, api: OpenStackApi, launch: Launch | None = None) -> Instance:
        """A server, once it is ACTIVE or has failed."""
        made = api.launch(launch or self.order(), api.offers("x86_64")[0])
        return self.wait(api, made.handle, InstanceState.PENDING)

    def wait(self, api: OpenStackApi, handle: str, *passing: InstanceState) -> Instance:
        """The server, once its state is none of `passing`."""
        deadline = time.monotonic() + _ACTIVE_TIMEOUT_S
        while True:
            found = api.find(handle)
            assert found is not None
            if found.state not in passing or time.monotonic() > deadline:
                return found
            time.sleep(1)

    def clean_up(self) -> None:
        """End all servers and images of tests, and wait until they are gone."""
        self.write_clouds(self.own_clouds())
        api = self.api(floating_ip_pool="outside")
        for image in api.images().list():
            api.images().delete(image.handle)
        deadline = time.monotonic() + _ACTIVE_TIMEOUT_S
        while time.monotonic() < deadline:
            left = api.list_tagged()
            for one in left:
                api.terminate(one.handle)
            if not left:
                break
            time.sleep(1)
        for leftover in api.list_leftovers():
            api.remove(leftover)
