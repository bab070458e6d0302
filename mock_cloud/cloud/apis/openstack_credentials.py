# SPDX-License-Identifier: GPL-2.0-or-later
"""Who we are to an OpenStack cloud: the keys of a clouds.yaml entry, understood.

Passwords, tokens and application credentials are read here. What an entry says beyond that is left
to openstacksdk where it is installed, and is refused by its name where it is not: a password that
is an identity provider's must not be sent to Keystone as a user's of its own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import field
from enum import Enum, auto
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from mock_cloud import places
from mock_cloud.cloud.apis.clouds_yaml import CloudEntry, find_entry
from mock_cloud.cloud.apis.openstack_sdk import load_by_sdk
from mock_cloud.errors import ConfigError
from mock_cloud.invocation.names import expand_home
from mock_cloud.model import Secret
from mock_cloud.wire.dataclass import dataclass

SERVICES: Final = ("compute", "network", "image")
"""The services that are used, by their type in the catalog."""

_INTERFACES: Final = ("public", "internal", "admin")
_VERSIONED: Final = re.compile(r"(.*?)/v(2\.0|3)/*")


class Method(Enum):
    """How to authenticate: what ``auth_type`` says, else the first whose secret is there."""

    APPLICATION_CREDENTIAL = auto()
    TOKEN = auto()
    PASSWORD = auto()
    OPENSTACKSDK = auto()
    """In a way that openstacksdk knows."""


_METHODS: Final = {
    "v3applicationcredential": Method.APPLICATION_CREDENTIAL,
    "token": Method.TOKEN,
    "v3token": Method.TOKEN,
    "password": Method.PASSWORD,
    "v3password": Method.PASSWORD,
    "v2password": Method.PASSWORD,
}
"""keystoneauth's names of what is known here."""

_SECRETS: Final = {
    Method.APPLICATION_CREDENTIAL: ("application_credential_secret",),
    Method.TOKEN: ("token", "auth_token"),
    Method.PASSWORD: ("password",),
}

_BEYOND: Final = ("profile", "cloud", "auth_methods", "passcode", "trust_id", "system_scope")
"""Keys that change what the others mean, or to whom a secret goes."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A user, project or application credential: by id, or by name within a domain."""

    id: str = ""
    name: str = ""
    domain_id: str = ""
    domain_name: str = ""

    def __bool__(self) -> bool:
        return bool(self.id or self.name)


@dataclass(frozen=True, slots=True)
class ServiceChoice:
    """What narrows the catalog to one endpoint of a service; `endpoint` is a URL instead of it."""

    name: str = ""
    endpoint: str = ""


@dataclass(frozen=True, slots=True)
class OpenStackCredentials:
    """All that is needed to reach a cloud's services. `source` names where it was found.

    `auth_url` is without the version, `identity_version` 2 or 3. `user` is the application
    credential's owner where `credential` has only a name. `sdk` is openstacksdk's reading of the
    same entry (a CloudRegion) where `method` says so; `secret` is empty then.
    """

    source: str
    auth_url: str
    method: Method
    secret: Secret
    identity_version: int = 3
    user: Identity = Identity()
    project: Identity = Identity()
    credential: Identity = Identity()
    region: str = ""
    interface: str = "public"
    ca_file: Path | None = None
    services: Mapping[str, ServiceChoice] = field(default_factory=dict)
    sdk: Any = field(default=None, repr=False)


def read_credentials(
    cloud: str,
    region: str = "",
    *,
    environ: Mapping[str, str] | None = None,
    home: Path | None = None,
) -> OpenStackCredentials:
    """The credentials of `cloud`, an entry of clouds.yaml; empty: what the environment says.

    `region` goes before the entry's own. ConfigError names the place and what is missing there.
    """
    environ = os.environ if environ is None else environ
    config = places.config_home(environ) if home is None else home / ".config"
    entry = find_entry(cloud, environ, config)
    beyond = find_beyond(entry)
    if not beyond:
        return parse_credentials(entry, region)
    sdk = load_by_sdk(entry, region)
    if sdk is None:
        raise ConfigError(
            f"{entry.source}: {beyond} is not known to mock-cloud itself",
            hint="install openstacksdk where mock-cloud is, which knows it; or use an application "
            "credential: openstack application credential create",
        )
    keys = _Keys(CloudEntry(entry.source, sdk.config))
    keys.refuse_unverified()
    auth = sdk.config.get("auth")
    return OpenStackCredentials(
        source=f"{entry.source}, by openstacksdk",
        auth_url=str((auth or {}).get("auth_url") or ""),
        method=Method.OPENSTACKSDK,
        secret=Secret(b""),
        region=keys.text("region_name"),
        interface=_interface(keys),
        ca_file=_ca_file(keys),
        services=_services(keys),
        sdk=sdk,
    )


def find_beyond(entry: CloudEntry) -> str:
    """What of an entry is left to openstacksdk, as its message names it; empty: nothing."""
    values = entry.values
    kind = values.get("auth_type") or values.get("auth_plugin") or ""
    if kind and kind not in _METHODS:
        return f"auth_type {kind}"
    for key in _BEYOND:
        if values.get(key):
            return f"the key {key}"
    regions = values.get("regions") or []
    if not isinstance(regions, list) or not all(isinstance(one, str) for one in regions):
        return "the table regions"
    return "a list as region_name" if isinstance(values.get("region_name"), list) else ""


def parse_credentials(entry: CloudEntry, region: str = "") -> OpenStackCredentials:
    """The credentials that an entry holds, if it has nothing that `find_beyond` finds.

    ConfigError.
    """
    keys = _Keys(entry)
    keys.refuse_unverified()
    auth_url, version = _auth_url(keys)
    method, secret = _secret(keys)
    credentials = OpenStackCredentials(
        source=entry.source,
        auth_url=auth_url,
        method=method,
        secret=secret,
        identity_version=version,
        user=keys.identity("user", id_key="user_id", name_key="username"),
        project=keys.project(),
        credential=Identity(
            keys.text("application_credential_id"), keys.text("application_credential_name")
        ),
        region=_region(keys, region),
        interface=_interface(keys),
        ca_file=_ca_file(keys),
        services=_services(keys),
    )
    _refuse_incomplete(keys, credentials)
    return credentials


class _Keys:
    """The keys of an entry, read as what they must be."""

    def __init__(self, entry: CloudEntry) -> None:
        self.source = entry.source
        self._values = entry.values

    def text(self, *names: str) -> str:
        """The first of `names` that is there; empty if none is. ConfigError if it is not text."""
        for name in names:
            value = self._values.get(name)
            if value is None or value == "":
                continue
            if not isinstance(value, str):
                # YAML made a number or a date of it, and 007 would not come back as it was.
                raise ConfigError(
                    f"{self.source}: {name} is not a string", hint=f"put {name} in quotes"
                )
            return value
        return ""

    def identity(self, what: str, *, id_key: str, name_key: str) -> Identity:
        return Identity(
            self.text(id_key),
            self.text(name_key),
            self.text(f"{what}_domain_id", "domain_id", "default_domain_id"),
            self.text(f"{what}_domain_name", "domain_name", "default_domain"),
        )

    def project(self) -> Identity:
        found = self.identity("project", id_key="project_id", name_key="project_name")
        if found:
            return found
        return self.identity("project", id_key="tenant_id", name_key="tenant_name")

    def regions(self) -> list[str]:
        """Those of the list ``regions``, else of ``region_name``, which may have commas."""
        listed = self._values.get("regions")
        if isinstance(listed, list) and listed:
            return [str(one) for one in listed]
        return [one.strip() for one in self.text("region_name").split(",") if one.strip()]

    def is_flag(self, name: str) -> bool:
        """Whether a key is true or false, as YAML or the environment say it."""
        return str(self._values.get(name, True)).lower() in ("true", "false", "0", "1")

    def refuse_unverified(self) -> None:
        """An API whose certificate is not checked is anyone's: it would be told the password."""
        verify = self._values.get("verify", True)
        insecure = self._values.get("insecure", False)
        if str(verify).lower() in ("false", "0") or str(insecure).lower() in ("true", "1"):
            raise ConfigError(
                f"{self.source}: certificates must be verified",
                hint="name the cloud's certificate authority as cacert, and take out verify",
            )

    def version(self, name: str) -> str:
        """A version, which YAML may have made a number of: 3, "3", 2.0, "v3"."""
        value = self._values.get(name, "")
        return str(value).lstrip("v") if isinstance(value, (str, int, float)) else ""

    def missing(self, what: str) -> ConfigError:
        return ConfigError(f"{self.source}: {what} is missing")


def _auth_url(keys: _Keys) -> tuple[str, int]:
    """The URL without its version, and the version: what the key says, else the URL, else 3."""
    url = keys.text("auth_url").rstrip("/")
    if not url:
        raise keys.missing("auth_url")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        raise ConfigError(f"{keys.source}: auth_url is not an http or https URL")
    versioned = _VERSIONED.fullmatch(url)
    kind = keys.text("auth_type", "auth_plugin")
    if kind.startswith(("v2", "v3")):
        version = kind[1]
    else:
        version = keys.version("identity_api_version") or (versioned[2] if versioned else "3")
    if version[0] not in "23":
        raise ConfigError(f"{keys.source}: identity_api_version {version!r} is neither 2 nor 3")
    return versioned[1] if versioned else url, int(version[0])


def _secret(keys: _Keys) -> tuple[Method, Secret]:
    kind = keys.text("auth_type", "auth_plugin")
    methods = [_METHODS[kind]] if kind else list(_SECRETS)
    for method in methods:
        value = keys.text(*_SECRETS[method])
        if value:
            return method, Secret(value.encode())
    if kind:
        raise keys.missing(f"{_SECRETS[methods[0]][0]} (auth_type is {kind})")
    raise keys.missing("a secret (application_credential_secret, token or password)")


def _services(keys: _Keys) -> Mapping[str, ServiceChoice]:
    return {
        service: ServiceChoice(
            keys.text(f"{service}_service_name"),
            keys.text(f"{service}_endpoint_override").rstrip("/"),
        )
        for service in SERVICES
    }


def _region(keys: _Keys, wanted: str) -> str:
    """The region wanted, else the entry's; of several the first. ConfigError if it is not there."""
    known = keys.regions()
    if wanted and len(known) > 1 and wanted not in known:
        raise ConfigError(
            f"{keys.source} has no region {wanted!r}", hint=f"its regions: {', '.join(known)}"
        )
    return wanted or (known[0] if known else "")


def _interface(keys: _Keys) -> str:
    # keystoneauth still accepts the former words: publicURL, internalURL, adminURL.
    interface = keys.text("interface", "endpoint_type").removesuffix("URL") or "public"
    if interface not in _INTERFACES:
        raise ConfigError(
            f"{keys.source}: interface {interface!r} is none of {', '.join(_INTERFACES)}"
        )
    return interface


def _ca_file(keys: _Keys) -> Path | None:
    for key in ("cacert", "verify"):
        name = "" if keys.is_flag(key) else keys.text(key)
        if not name:
            continue
        path = Path(expand_home(name))
        if not path.is_file():
            raise ConfigError(f"{keys.source}: there is no file {path} ({key})")
        return path
    return None


def _refuse_incomplete(keys: _Keys, credentials: OpenStackCredentials) -> None:
    """What the chosen method needs, said before the API says something less helpful."""
    if credentials.method is Method.APPLICATION_CREDENTIAL:
        if not credentials.credential:
            raise keys.missing("application_credential_id")
        if not credentials.credential.id and not credentials.user:
            raise keys.missing("the user of the application credential (user_id or username)")
        if credentials.identity_version == 2:
            raise ConfigError(f"{keys.source}: identity version 2 has no application credentials")
        return
    if not credentials.project:
        raise keys.missing("the project (project_id or project_name)")
    if credentials.method is Method.PASSWORD and not credentials.user:
        raise keys.missing("the user (username or user_id)")
    if credentials.identity_version == 2:
        if credentials.method is not Method.PASSWORD:
            raise ConfigError(
                f"{keys.source}: identity version 2 is supported with a password only"
            )
        if not credentials.user.name or not credentials.project.name:
            raise keys.missing("username or project_name, which identity version 2 needs")
