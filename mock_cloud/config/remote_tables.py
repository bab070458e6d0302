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
_BOOT: Final = Key(
    "boot_timeout_s", duration(1.0, _HOUR_S), "how long a node may take to boot, such as 5m"
)
_REACH: Final = Key(
    "reach", choice(Reach), "address to connect to: public, private or ipv6 (default: public)"
)


def _ex_arguments(raw: Any, _: Path) -> dict[str, object]:
    if not isinstance(raw, dict):
        raise Refused(f"a table of ex_ arguments is wanted, not {raw!r}")
    for name in raw:
        if not name.startswith("ex_"):
            raise Refused(f"{name!r} does not begin with ex_")
    return dict(raw)


CLOUD_TABLES: Final[Mapping[str, Mapping[str, Key]]] = {
    "ec2": {
        "region": Key("region", text, "region, such as eu-central-1", required=True),
        "zones": Key("zones", strings, "availability zones, best first (default: any)"),
        "subnets": Key("subnets", strings, "subnets, one for each zone or one for all"),
        "security_groups": Key(
            "security_groups", strings, "security groups that let this machine in to port 22"
        ),
        "market": Key(
            "market", choice(Market), "on-demand, spot or spot-first (default: on-demand)"
        ),
        "reach": _REACH,
        "volume_gib": Key(
            "volume_gib",
            integer(0, 16 << 10),
            "size of the root volume in GiB (default: the image's)",
        ),
        "endpoint": Key("endpoint", url, "URL of the API, if it is not AWS's own"),
        "profile": Key("profile", text, "profile in ~/.aws to take credentials from"),
        "access_key_id": Key(
            "access_key_id", text, "access key id, in place of ~/.aws and the environment"
        ),
        "secret_access_key": Key(
            "secret_access_key",
            secret,
            "secret access key; the file must then be readable by nobody else",
        ),
        "boot_timeout": _BOOT,
    },
    "openstack": {
        "cloud": Key("cloud", text, "entry in clouds.yaml (default: OS_* variables)"),
        "region": Key("region", text, "region, if the cloud has several"),
        "zones": Key("zones", strings, "availability zones, best first (default: any)"),
        "networks": Key(
            "networks", strings, "ids or names of networks (default: the API's choice)"
        ),
        "security_groups": Key(
            "security_groups", strings, "security groups that let this machine in to port 22"
        ),
        "floating_ip_pool": Key(
            "floating_ip_pool", text, "external network to take a floating address of for each node"
        ),
        "config_drive": Key(
            "config_drive",
            flag,
            "true: give nodes their data on a drive, where there is no metadata service",
        ),
        "reach": _REACH,
        "boot_timeout": _BOOT,
    },
    "rackspace": {
        "region": Key("region", text, "region, such as ord", required=True),
        "endpoint": Key("endpoint", url, "URL of the API, if it is not Rackspace's own"),
        "username": Key("username", text, "user name (default: RACKSPACE_USERNAME)"),
        "api_key": Key("api_key", secret, "API key; the file must then be readable by nobody else"),
        "reach": _REACH,
        "boot_timeout": _BOOT,
    },
    "libcloud": {
        "driver": Key(
            "driver", text, "libcloud's name of the driver, such as digitalocean", required=True
        ),
        "arguments": Key(
            "arguments", scalars, "arguments of the driver; env:NAME is read from the environment"
        ),
        "create": Key("create", _ex_arguments, "ex_ arguments of the driver's create_node"),
        "locations": Key("locations", strings, "ids of locations, best first"),
        "reach": _REACH,
        "boot_timeout": _BOOT,
    },
}

TABLES: Final[Tables] = {
    "remote": {
        "provider": Key("provider", text, "where nodes come from", required=True),
        "arches": Key("arches", words, "architectures of the nodes"),
        "fallback": Key(
            "fallback", strings, "remotes to turn to, in this order, if this one has no node"
        ),
    },
    "local": {
        "image": Key("image", directory, "root of the node's RPM tree", required=True),
        "address": Key("address", loopback, "loopback address of the node (default: a free one)"),
        "disk_mib": Key(
            "disk_mib", integer(0, 16 << 20), "size of the node's own disk in MiB (default 0: none)"
        ),
        "boot_timeout": _BOOT,
    },
    **CLOUD_TABLES,
    "node": Each(
        {
            "images": Key("images", strings, "ids of images, best first", required=True),
            "sizes": Key("sizes", strings, "ids of sizes, best first", required=True),
            "price_per_hour": Key(
                "price_per_hour",
                number(0.0, 10_000.0),
                "price of a node for one hour, if the API does not tell",
            ),
            "manifest": Key("manifest", file, "signed manifest of this architecture's image"),
        },
        plain_word,
    ),
    "host": Each(
        {
            "address": Key("address", text, "name or address of the machine", required=True),
            "owner": Key("owner", text, "who lends it", required=True),
            "arch": Key("arch", plain_word, "its architecture", required=True),
            "port": Key("port", integer(1, 65535), "its SSH port (default 22)"),
            "user": Key("user", text, "who to log in as (only root)"),
            "host_key": Key(
                "host_key", public_key, "its SSH host key: a line ssh-ed25519 AAAA…, or a .pub file"
            ),
            "host_ca": Key(
                "host_ca",
                public_key,
                "key of the CA that certified its host key, in place of host_key",
            ),
            "identity": Key("identity", file, "the only private key to log in with"),
            "ssh_config": Key("ssh_config", file, "file in place of your own ~/.ssh/config"),
            "capacity": Key(
                "capacity",
                integer(1, 10_000),
                "how much it can do: the largest free machine is taken first (default 1)",
            ),
            "manifest": Key("manifest", file, "signed manifest of this machine"),
        },
        plain_word,
    ),
    "budget": {
        "per_day": Key(
            "per_day",
            number(0.01, 100_000.0),
            "what this remote may cost in a day of UTC (default: no limit)",
            required=True,
        ),
        "currency": Key("currency", text, "currency, for messages (default USD)"),
        "at_limit": Key(
            "at_limit",
            choice(AtLimit),
            "stop or finish: what nodes do once the budget is spent (default: stop)",
        ),
    },
    "attest": {
        "manifest": Key(
            "manifest", file, "signed manifest of the nodes' image (default: bake one later)"
        ),
        "manifest_keys": Key(
            "manifest_keys", files, "OpenSSH public keys that may sign manifests", required=True
        ),
        "manifest_threshold": Key(
            "manifest_threshold", integer(1, 16), "how many of them must have signed (default 1)"
        ),
        "manifest_max_age": Key(
            "manifest_max_age_s",
            duration(_HOUR_S, 3660 * _DAY_S),
            "how long ago a manifest may have been signed, such as 35d (default: its expiry)",
        ),
        "revocations": Key("revocations", files, "files written by mock-cloud known-good revoke"),
        "package_keys": Key(
            "package_keys",
            files,
            "OpenPGP certificates of the distribution's packages",
            required=True,
        ),
        "second_look": Key(
            "second_look",
            choice(SecondLook),
            "always: measure the node again after each build (default: never)",
        ),
        "unsafe_containers": Key(
            "unsafe_containers",
            flag,
            "true: nodes may be containers, whose kernel is somebody else's",
        ),
    },
    "lease": {
        "idle_ttl": Key(
            "idle_ttl_s",
            duration(0.0, _DAY_S),
            "how long an idle node stays, such as 10m (default 10m)",
        ),
        "max_ttl": Key(
            "max_ttl_s", duration(60.0, _WEEK_S), "a node's whole life, such as 4h (default 4h)"
        ),
        "max_nodes": Key("max_nodes", integer(1, 100), "how many nodes at a time (default 2)"),
        "max_builds": Key(
            "max_builds", integer(1, 100_000), "how many jobs one node may do (default 50)"
        ),
    },
    "build": {
        "engine": Key("engine", choice(EngineChoice), "auto, mock or chroot (default: auto)"),
        "connect_timeout": Key(
            "connect_timeout_s",
            duration(1.0, _HOUR_S),
            "how long reaching a node's sshd may take (default 30s)",
        ),
        "silence_timeout": Key(
            "silence_timeout_s",
            duration(1.0, _HOUR_S),
            "how long a node may be silent before it counts as lost (default 30s)",
        ),
        "retries": Key(
            "retries",
            integer(0, 5),
            "on how many other nodes a build is tried whose node failed (default 1)",
        ),
        "repo_access": Key(
            "repo_access",
            choice(RepoAccess),
            "direct, tunnel or auto: how nodes get to repositories (default: auto)",
        ),
        "shadow": Key(
            "shadow",
            choice(ShadowChoice),
            "auto, always or never: keep a copy of parts of the chroot here (default: auto)",
        ),
        "shadow_tmpdir": Key(
            "shadow_tmpdir",
            top_directory,
            "directory of the chroot that is the same here and there (default /chroot_tmpdir)",
        ),
    },
    "toolkit": {
        "mirror": Key("mirror", text, "Debian mirror with packages for other architectures"),
        "suite": Key("suite", text, "its suite, with mirror"),
        "keyring": Key("keyring", file, "keyring that checks its signatures, with mirror"),
        "repository": Key(
            "repository", text, "RPM repository with packages for other architectures"
        ),
        "key": Key("key", file, "certificate that signed its packages, with repository"),
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
