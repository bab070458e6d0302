# SPDX-License-Identifier: GPL-2.0-or-later
"""Tokens of an OpenStack cloud: libcloud's identity connections, with what they lack.

Keystone v3 as libcloud speaks it takes a user's domain by name, and a project by name with its
domain's id; clouds.yaml may say each of them otherwise. Importing this imports libcloud: do it
late.
"""
# mypy: disallow-untyped-calls=False
# libcloud's OpenStack classes have no types yet.

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, Protocol

import libcloud
from libcloud.common.openstack_identity import (
    OpenStackAuthResponse,
    OpenStackIdentity_2_0_Connection,
    OpenStackIdentity_3_0_Connection,
    OpenStackIdentityTokenScope,
    OpenStackServiceCatalog,
)
from libcloud.common.types import InvalidCredsError
from libcloud.http import LibcloudConnection

from mock_cloud import __version__
from mock_cloud.cloud.apis.openstack_credentials import Identity, Method, OpenStackCredentials
from mock_cloud.cloud.apis.openstack_sdk import SdkTokens
from mock_cloud.cloud.apis.texts import one_line
from mock_cloud.errors import ConfigError

USER_AGENT: Final = f"mock-cloud/{__version__} libcloud/{libcloud.__version__}"
_UNKNOWN: Final = ("Could not find", "Could not recognize", "Failed to validate token")
"""What Keystone says, with status 404, of a credential or token that it does not know."""


class TokenSource(Protocol):
    """Who we are to the services of one cloud: one token for all of them."""

    def token(self) -> str:
        """A token that is valid as far as is known, a new one if need be. libcloud's errors."""

    def catalog(self) -> Any:
        """libcloud's OpenStackServiceCatalog that came with the token."""

    def clear_cached_auth_context(self) -> None:
        """Forget a token that was refused. (The name is libcloud's, which calls it.)"""


def make_token_source(credentials: OpenStackCredentials, timeout_s: float) -> TokenSource:
    """What the credentials mean. Asks for nothing yet."""
    if credentials.method is Method.OPENSTACKSDK:
        return SdkTokens(credentials.sdk, credentials.source, timeout_s)
    return Keystone(credentials, timeout_s)


class Keystone:
    """See `TokenSource`: Keystone itself, asked by libcloud."""

    def __init__(self, credentials: OpenStackCredentials, timeout_s: float) -> None:
        self._is_v2 = credentials.identity_version == 2
        ca_file = credentials.ca_file
        conn_class = LibcloudConnection if ca_file is None else trusting(ca_file)
        parent = SimpleNamespace(conn_class=conn_class, driver=None)
        if self._is_v2:
            self._keystone: Any = _KeystoneV2(
                auth_url=credentials.auth_url,
                user_id=credentials.user.name,
                key=credentials.secret.reveal().decode(),
                tenant_name=credentials.project.name,
                timeout=timeout_s,
                parent_conn=parent,
            )
        else:
            self._keystone = _KeystoneV3(credentials, timeout_s, parent)
        self._catalog: Any = None

    def token(self) -> str:
        """See `TokenSource`."""
        if not self._keystone.is_token_valid():
            # Version 2 has also API keys, which libcloud takes for its default.
            self._keystone.authenticate(**({"auth_type": "password"} if self._is_v2 else {}))
            version = "2.0_password" if self._is_v2 else "3.x_password"
            self._catalog = OpenStackServiceCatalog(self._keystone.urls, version)
        return str(self._keystone.auth_token)

    def catalog(self) -> Any:
        """See `TokenSource`."""
        self.token()
        return self._catalog

    def clear_cached_auth_context(self) -> None:
        """See `TokenSource`."""
        self._keystone.clear_cached_auth_context()


class _TokenResponse(OpenStackAuthResponse):
    """libcloud's, but for refusals: Keystone's own words, and what they mean."""

    def success(self) -> bool:
        return self.status in (200, 201, 202, 204)

    def parse_error(self) -> str:
        try:
            found = json.loads(self.body or "")["error"]["message"]
        except (ValueError, LookupError, TypeError):
            found = ""
        text = one_line(str(found)) or f"HTTP status {self.status}"
        if self.status == 401 or (self.status == 404 and text.startswith(_UNKNOWN)):
            raise InvalidCredsError(text)
        if self.status in (300, 404, 405):
            raise ConfigError(
                f"there is no identity service: {text}", hint="is auth_url in clouds.yaml right?"
            )
        return text


class _KeystoneV2(OpenStackIdentity_2_0_Connection):
    responseCls = _TokenResponse  # noqa: N815 (libcloud's name)

    def _user_agent(self) -> str:
        return USER_AGENT


class _KeystoneV3(OpenStackIdentity_3_0_Connection):
    responseCls = _TokenResponse  # noqa: N815 (libcloud's name)

    def __init__(self, credentials: OpenStackCredentials, timeout_s: float, parent: Any) -> None:
        super().__init__(
            auth_url=credentials.auth_url,
            user_id=credentials.user.name,
            key="",
            token_scope=OpenStackIdentityTokenScope.UNSCOPED,  # the request says it itself
            timeout=timeout_s,
            parent_conn=parent,
        )
        self._credentials = credentials

    def _user_agent(self) -> str:
        return USER_AGENT

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


def trusting(ca_file: Path) -> type[LibcloudConnection]:
    """libcloud's HTTP connection with one cloud's own certificate authority.

    libcloud knows one for the whole process only, and a run may talk to two clouds.
    """

    class _Trusting(LibcloudConnection):
        def _setup_ca_cert(self, **_: object) -> None:
            self.ca_cert = str(ca_file)

    return _Trusting
