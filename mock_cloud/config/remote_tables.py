# SPDX-License-Identifier: GPL-2.0-or-later
"""The tables and keys of a remote's file, each with its bounds; mock-cloud-remotes(5) in code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from mock_cloud.config.toml_tables import Each, Key, Tables
from mock_cloud.config.toml_values import (
    Check,
    Refused,
    choice,
    directory,
    duration,
    file,
    files,
    flag,
    integer,
    loopback,
    number,
    path,
    paths,
    plain_word,
    public_key,
    scalars,
    secret,
    strings,
    text,
    top_directory,
    url,
    words,
)
from mock_cloud.settings import (
    AtLimit,
    EngineChoice,
    Market,
    Reach,
    RepoAccess,
    SecondLook,
    ShadowChoice,
)

_WEEK_S: Final = 7 * 86400.0
_HOUR_S: Final = 3600.0
_DAY_S: Final = 86400.0
_BOOT: Final = Key("boot_timeout_s", duration(1.0, _HOUR_S))
_REACH: Final = Key("reach", choice(Reach))


def _ex_arguments(raw: Any, _: Path) -> dict[str, object]:
    if not isinstance(raw, dict):
        raise Refused(f"a table of ex_ arguments is wanted, not {raw!r}")
    for name in raw:
        if not name.startswith("ex_"):
            raise Refused(f"{name!r} does not begin with ex_")
    return dict(raw)


CLOUD_TABLES: Final[Mapping[str, Mapping[str, Key]]] = {
    "ec2": {
        "region": Key("region", text, required=True),
        "zones": Key("zones", strings),
        "subnets": Key("subnets", strings),
        "security_groups": Key("security_groups", strings),
        "market": Key("market", choice(Market)),
        "reach": _REACH,
        "volume_gib": Key("volume_gib", integer(0, 16 << 10)),
        "endpoint": Key("endpoint", url),
        "profile": Key("profile", text),
        "access_key_id": Key("access_key_id", text),
        "secret_access_key": Key("secret_access_key", secret),
        "boot_timeout": _BOOT,
    },
    "openstack": {
        "cloud": Key("cloud", text),
        "region": Key("region", text),
        "zones": Key("zones", strings),
        "networks": Key("networks", strings),
        "security_groups": Key("security_groups", strings),
        "floating_ip_pool": Key("floating_ip_pool", text),
        "config_drive": Key("config_drive", flag),
        "reach": _REACH,
        "boot_timeout": _BOOT,
    },
    "rackspace": {
        "region": Key("region", text, required=True),
        "endpoint": Key("endpoint", url),
        "username": Key("username", text),
        "api_key": Key("api_key", secret),
        "reach": _REACH,
        "boot_timeout": _BOOT,
    },
    "libcloud": {
        "driver": Key("driver", text, required=True),
        "arguments": Key("arguments", scalars),
        "create": Key("create", _ex_arguments),
        "locations": Key("locations", strings),
        "reach": _REACH,
        "boot_timeout": _BOOT,
    },
}

TABLES: Final[Tables] = {
    "remote": {
        "provider": Key("provider", text, required=True),
        "arches": Key("arches", words),
        "fallback": Key("fallback", strings),
    },
    "local": {
        "image": Key("image", directory, required=True),
        "address": Key("address", loopback),
        "disk_mib": Key("disk_mib", integer(0, 16 << 20)),
        "boot_timeout": _BOOT,
    },
    **CLOUD_TABLES,
    "node": Each(
        {
            "images": Key("images", strings, required=True),
            "sizes": Key("sizes", strings, required=True),
            "price_per_hour": Key("price_per_hour", number(0.0, 10_000.0)),
            "manifest": Key("manifest", file),
        },
        plain_word,
    ),
    "host": Each(
        {
            "address": Key("address", text, required=True),
            "owner": Key("owner", text, required=True),
            "arch": Key("arch", plain_word, required=True),
            "port": Key("port", integer(1, 65535)),
            "user": Key("user", text),
            "host_key": Key("host_key", public_key),
            "host_ca": Key("host_ca", public_key),
            "identity": Key("identity", file),
            "ssh_config": Key("ssh_config", file),
            "capacity": Key("capacity", integer(1, 10_000)),
            "manifest": Key("manifest", file),
        },
        plain_word,
    ),
    "budget": {
        "per_day": Key("per_day", number(0.01, 100_000.0), required=True),
        "currency": Key("currency", text),
        "at_limit": Key("at_limit", choice(AtLimit)),
    },
    "attest": {
        "manifest": Key("manifest", file),
        "manifest_keys": Key("manifest_keys", files, required=True),
        "manifest_threshold": Key("manifest_threshold", integer(1, 16)),
        "manifest_max_age": Key("manifest_max_age_s", duration(_HOUR_S, 3660 * _DAY_S)),
        "revocations": Key("revocations", files),
        "package_keys": Key("package_keys", files, required=True),
        "second_look": Key("second_look", choice(SecondLook)),
        "unsafe_containers": Key("unsafe_containers", flag),
    },
    "lease": {
        "idle_ttl": Key("idle_ttl_s", duration(0.0, _DAY_S)),
        "max_ttl": Key("max_ttl_s", duration(60.0, _WEEK_S)),
        "max_nodes": Key("max_nodes", integer(1, 100)),
        "max_builds": Key("max_builds", integer(1, 100_000)),
    },
    "build": {
        "engine": Key("engine", choice(EngineChoice)),
        "connect_timeout": Key("connect_timeout_s", duration(1.0, _HOUR_S)),
        "silence_timeout": Key("silence_timeout_s", duration(1.0, _HOUR_S)),
        "retries": Key("retries", integer(0, 5)),
        "repo_access": Key("repo_access", choice(RepoAccess)),
        "shadow": Key("shadow", choice(ShadowChoice)),
        "shadow_tmpdir": Key("shadow_tmpdir", top_directory),
    },
    "toolkit": {
        "mirror": Key("mirror", text),
        "suite": Key("suite", text),
        "keyring": Key("keyring", file),
        "repository": Key("repository", text),
        "key": Key("key", file),
    },
}


def without_files(tables: Tables) -> Tables:
    """The same tables, for a reader who needs none of the files and directories they name.

    Nodes must end, whatever happened to the manifest that they were attested by.
    """

    def unchecked(keys: Mapping[str, Key]) -> dict[str, Key]:
        names: dict[Check, Check] = {file: path, directory: path, files: paths}
        return {
            name: replace(key, check=names.get(key.check, key.check)) for name, key in keys.items()
        }

    return {
        name: replace(keys, keys=unchecked(keys.keys))
        if isinstance(keys, Each)
        else unchecked(keys)
        for name, keys in tables.items()
    }
