# SPDX-License-Identifier: GPL-2.0-or-later
"""Connections to the services of an OpenStack cloud: libcloud's, with what its identity lacks.

Keystone v3 as libcloud speaks it takes a user's domain by name, a project by name with its domain's
id, and public endpoints only; clouds.yaml may say each of them otherwise. Importing this imports
libcloud: do it late.
"""
# mypy: disallow-untyped-calls=False
# libcloud's OpenStack classes have no types yet.

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from libcloud.common.exceptions import BaseHTTPError
from libcloud.common.openstack_identity import (
    OpenStackIdentity_3_0_Connection,
    OpenStackIdentityEndpointType,
    OpenStackIdentityTokenScope,
)
from libcloud.common.types import LibcloudError
from libcloud.compute.drivers.openstack import OpenStack_1_1_Connection, OpenStack_2_Connection
from libcloud.http import LibcloudConnection

from mock_cloud.cloud.apis.calls import Once
from mock_cloud.cloud.apis.openstack_credentials import (
    Identity,
    Method,
    OpenStackCredentials,
    ServiceChoice,
)
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

    def __init__(self, credentials: OpenStackCredentials, service: str, timeout_s: float) -> None:
        self._credentials = credentials
        self._choice = credentials.services.get(service, ServiceChoice())
        self._keystone: Any = None
        is_v2 = credentials.identity_version == 2
        super().__init__(
            user_id=credentials.user.name,
            key=credentials.secret.reveal().decode() if is_v2 else "",
            timeout=timeout_s,
            ex_force_base_url=self._choice.endpoint or None,
            ex_force_auth_url=credentials.auth_url,
            ex_force_auth_version="2.0_password" if is_v2 else "3.x_password",
            ex_tenant_name=credentials.project.name,
        )
        self.service_type = service
        if credentials.ca_file is not None:
            self.conn_class = _trusting(credentials.ca_file)

    def get_auth_class(self) -> Any:
        if self._keystone is None:
            if self._credentials.identity_version == 2:
                self._keystone = super().get_auth_class()
            else:
                self._keystone = _KeystoneV3(self._credentials, self)
        return self._keystone

    def get_endpoint(self) -> str:
        """The service's URL, without a version that its paths begin with. ConfigError."""
        wanted = self._credentials
        catalog: Any = self.service_catalog
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
                hint=f"regions that have it: {regions}; "
                f"{self.service_type}_service_name in clouds.yaml tells them apart",
            ) from error
        return str(endpoint.url).rstrip("/").removesuffix("/v2.0")


class _KeystoneV3(OpenStackIdentity_3_0_Connection):
    def __init__(self, credentials: OpenStackCredentials, parent: ServiceConnection) -> None:
        super().__init__(
            auth_url=credentials.auth_url,
            user_id=credentials.user.name,
            key="",
            token_scope=OpenStackIdentityTokenScope.UNSCOPED,  # the request says it itself
            timeout=parent.timeout,
            parent_conn=parent,
        )
        self._credentials = credentials

    def _get_auth_data(self) -> Mapping[str, object]:
        return authentication(self._credentials)


def authentication(credentials: OpenStackCredentials) -> dict[str, object]:
    """The body of ``POST /v3/auth/tokens`` (Identity API v3, "Password authentication …")."""
    secret = credentials.secret.reveal().decode()
    method: dict[str, object]
    if credentials.method is Method.APPLICATION_CREDENTIAL:
        name = "application_credential"
        method = {"secret": secret, **_reference(credentials.credential, with_domain=False)}
        if not credentials.credential.id:
            method["user"] = _reference(credentials.user)
    elif credentials.method is Method.TOKEN:
        name = "token"
        method = {"id": secret}
    else:
        name = "password"
        method = {"user": {**_reference(credentials.user), "password": secret}}
    auth: dict[str, object] = {"identity": {"methods": [name], name: method}}
    if credentials.method is not Method.APPLICATION_CREDENTIAL:  # which has its own project
        auth["scope"] = {"project": _reference(credentials.project)}
    return {"auth": auth}


def _reference(whom: Identity, *, with_domain: bool = True) -> dict[str, object]:
    if whom.id:
        return {"id": whom.id}
    if not with_domain:
        return {"name": whom.name}
    if whom.domain_name and not whom.domain_id:
        return {"name": whom.name, "domain": {"name": whom.domain_name}}
    return {"name": whom.name, "domain": {"id": whom.domain_id or "default"}}


def _trusting(ca_file: Path) -> type[LibcloudConnection]:
    """libcloud's HTTP connection with one cloud's own certificate authority.

    libcloud knows one for the whole process only, and a run may talk to two clouds.
    """

    class _Trusting(LibcloudConnection):
        def _setup_ca_cert(self, **_: object) -> None:
            self.ca_cert = str(ca_file)

    return _Trusting
