# SPDX-License-Identifier: GPL-2.0-or-later
"""Connections to the services of an OpenStack cloud: libcloud's, with a choice of endpoints.

Importing this imports libcloud: do it late.
"""
# mypy: disallow-untyped-calls=False
# libcloud's OpenStack classes have no types yet.

from __future__ import annotations

from typing import Any, Final

from libcloud.common.exceptions import BaseHTTPError
from libcloud.common.openstack_identity import OpenStackIdentityEndpointType
from libcloud.common.types import LibcloudError
from libcloud.compute.drivers.openstack import OpenStack_1_1_Connection, OpenStack_2_Connection

from mock_cloud.cloud.apis.calls import Once
from mock_cloud.cloud.apis.openstack_credentials import OpenStackCredentials, ServiceChoice
from mock_cloud.cloud.apis.openstack_identity import USER_AGENT, TokenSource, trusting
from mock_cloud.errors import ConfigError

_ENDPOINT_TYPES: Final = {
    "public": OpenStackIdentityEndpointType.EXTERNAL,
    "internal": OpenStackIdentityEndpointType.INTERNAL,
    "admin": OpenStackIdentityEndpointType.ADMIN,
}


class Renewing(OpenStack_1_1_Connection):
    """A connection that gets itself a new token, once, when the one it has is refused.

    A token can end before its time: revoked, or forgotten by a restarted identity service.
    Nothing was done by a request that was answered so, whichever it was.
    """

    retryCls: Any = Once  # noqa: N815 (libcloud's name)

    def request(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().request(*args, **kwargs)
        except BaseHTTPError as error:
            if error.code != 401:
                raise
        # libcloud has dropped the token by now: the next request starts with a new one.
        return super().request(*args, **kwargs)


class ServiceConnection(Renewing, OpenStack_2_Connection):
    """One service of a cloud, chosen from its catalog by type, name, region and interface."""

    def __init__(
        self,
        credentials: OpenStackCredentials,
        tokens: TokenSource,
        service: str,
        timeout_s: float,
    ) -> None:
        self._credentials = credentials
        self._choice = credentials.services.get(service, ServiceChoice())
        self._tokens = tokens
        super().__init__(
            user_id="",
            key="",
            timeout=timeout_s,
            ex_force_auth_url=credentials.auth_url or "http://unused.invalid",
            ex_force_auth_version="3.x_password",
        )
        self.service_type = service
        if credentials.ca_file is not None:
            self.conn_class = trusting(credentials.ca_file)

    def get_auth_class(self) -> Any:
        return self._tokens

    def _user_agent(self) -> str:
        return USER_AGENT

    def _populate_hosts_and_request_paths(self) -> None:
        self.auth_token = self._tokens.token()
        self._set_up_connection_info(url=self._choice.endpoint or self.get_endpoint())

    def get_endpoint(self) -> str:
        """The service's URL, without a version that its paths begin with. ConfigError."""
        wanted = self._credentials
        catalog: Any = self._tokens.catalog()
        try:
            endpoint = catalog.get_endpoint(
                service_type=self.service_type,
                name=self._choice.name or None,
                region=wanted.region or None,
                endpoint_type=_ENDPOINT_TYPES[wanted.interface],
            )
        except (LibcloudError, ValueError) as error:
            regions = ", ".join(catalog.get_regions(self.service_type)) or "none"
            where = f" in region {wanted.region!r}" if wanted.region else ""
            many = isinstance(error, ValueError)
            raise ConfigError(
                f"{wanted.source}: {'several' if many else 'no'} {wanted.interface} endpoints "
                f"for {self.service_type}{where}",
                hint=f"regions that have it: {regions}; region in [openstack] names one, "
                f"{self.service_type}_service_name in clouds.yaml tells services apart",
            ) from error
        return str(endpoint.url).rstrip("/").removesuffix("/v2.0")
