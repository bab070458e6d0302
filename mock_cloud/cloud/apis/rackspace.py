# SPDX-License-Identifier: GPL-2.0-or-later
"""Rackspace's "cloudservers": OpenStack's compute API of 2012, with its own way in and prices.

It has no availability zones, security groups or floating addresses, and gives user-data to a node
on a config drive only.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import TYPE_CHECKING, Final

from mock_cloud.cloud.apis.adapter import Offer
from mock_cloud.cloud.apis.calls import ATTEMPT_TIMEOUT_S, Calls, make_ours
from mock_cloud.cloud.apis.openstack import OpenStackApi
from mock_cloud.cloud.apis.openstack_failures import OpenStackClassifier
from mock_cloud.errors import ConfigError
from mock_cloud.model import Secret
from mock_cloud.settings import NodeSettings, OpenStackSettings, RackspaceSettings, Remote
from mock_cloud.wire.dataclass import dataclass

if TYPE_CHECKING:
    from libcloud.compute.drivers.rackspace import RackspaceNodeDriver

_USERNAME: Final = "RACKSPACE_USERNAME"
_API_KEY: Final = "RACKSPACE_API_KEY"


@dataclass(frozen=True, slots=True)
class RackspaceCredentials:
    """A user and its API key; `source` names where they were found."""

    source: str
    username: str
    api_key: Secret


class RackspaceApi(OpenStackApi):
    """The compute API of one Rackspace region."""

    def __init__(
        self,
        calls: Calls,
        classify: OpenStackClassifier,
        make_driver: Callable[[], RackspaceNodeDriver],
        nodes: Mapping[str, NodeSettings],
        placement: OpenStackSettings,
    ) -> None:
        self._driver = cache(make_driver)
        super().__init__(
            calls, classify, lambda service: self._driver().connection, nodes, placement
        )

    def price(self, offer: Offer) -> float | None:
        """See `CloudApi.price`: from libcloud's table."""
        from libcloud.pricing import get_size_price

        return get_size_price("compute", self._driver().api_name, offer.size)

    def explain_silence(self, handle: str) -> str:
        """See `CloudApi.explain_silence`. There is no filter in between that could be looked at."""
        return ""


def make_rackspace_api(remote: Remote) -> RackspaceApi:
    """The API that a remote with a table [rackspace] means. ConfigError about its credentials."""
    settings = remote.cloud
    if not isinstance(settings, RackspaceSettings):
        raise ConfigError(f"remote {remote.name} has no table [rackspace]")
    credentials = find_credentials(settings, str(remote.source), os.environ)
    service = f"Rackspace {settings.region.upper()}"

    classify = OpenStackClassifier(service, credentials.source)
    return RackspaceApi(
        Calls(service, classify),
        classify,
        partial(_make_driver, settings, credentials),
        remote.nodes,
        OpenStackSettings(config_drive=True, reach=settings.reach),
    )


def find_credentials(
    settings: RackspaceSettings, file: str, environ: Mapping[str, str]
) -> RackspaceCredentials:
    """Those of the remote's file, else the environment's; never half of each. ConfigError."""
    if settings.username and settings.api_key is not None:
        return RackspaceCredentials(file, settings.username, settings.api_key)
    if settings.username or settings.api_key is not None:
        raise ConfigError(f"{file}: username and api_key go together: one is missing")
    source = f"{_USERNAME} and {_API_KEY}"
    username, api_key = environ.get(_USERNAME, ""), environ.get(_API_KEY, "")
    if not username or not api_key:
        raise ConfigError(
            f"there are no credentials for Rackspace: no username and api_key in {file}, "
            f"no {source} in the environment",
            hint="the API key is shown in Rackspace's account settings",
        )
    return RackspaceCredentials(source, username, Secret(api_key.encode()))


def _make_driver(
    settings: RackspaceSettings, credentials: RackspaceCredentials
) -> RackspaceNodeDriver:
    from libcloud.compute.drivers.rackspace import ENDPOINT_ARGS_MAP

    from mock_cloud.cloud.apis.rackspace_driver import RenewingDriver

    region = settings.region.lower()
    if region not in ENDPOINT_ARGS_MAP:
        near = difflib.get_close_matches(region, ENDPOINT_ARGS_MAP, n=1) or ENDPOINT_ARGS_MAP
        raise ConfigError(
            f"Rackspace has no region {settings.region!r}",
            hint=f"there are: {', '.join(name.upper() for name in near)}",
        )
    endpoint = settings.endpoint.rstrip("/").removesuffix("/v2.0")
    driver = RenewingDriver(  # type: ignore[no-untyped-call]
        credentials.username,
        credentials.api_key.reveal().decode(),
        region=region,
        timeout=ATTEMPT_TIMEOUT_S,
        ex_force_auth_url=endpoint or None,
    )
    make_ours(driver)
    return driver
