# SPDX-License-Identifier: GPL-2.0-or-later
"""The tables and keys of a remote's file with their checks, as `settings` declares them."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, replace
from enum import Enum
from pathlib import Path
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

from mock_cloud.config import toml_values as checks
from mock_cloud.config.toml_tables import Each, Key, Tables
from mock_cloud.model import HostKey, Secret
from mock_cloud.settings import (
    AttestSettings,
    AuditSettings,
    Budget,
    BuildSettings,
    CloudSettings,
    Ec2Settings,
    HostSettings,
    LeaseLimits,
    LibcloudSettings,
    LocalSettings,
    NodeSettings,
    NotifySettings,
    OpenStackSettings,
    ProvenanceSettings,
    RackspaceSettings,
    Setting,
    ToolkitSettings,
)

_OF_TYPE: Final[Mapping[Any, checks.ValueCheck]] = {
    str: checks.text,
    bool: checks.flag,
    Path: checks.file,
    Secret: checks.secret,
    HostKey: checks.public_key,
    tuple[str, ...]: checks.strings,
    tuple[Path, ...]: checks.files,
}


def _keys(settings: type) -> dict[str, Key]:
    """The keys of the table that `settings` describes."""
    hints = get_type_hints(settings, include_extras=True)
    found = {}
    for one in fields(settings):
        kind, *rules = get_args(hints[one.name]) or (None,)
        for rule in rules:
            if isinstance(rule, Setting):
                has_default = one.default is not MISSING or one.default_factory is not MISSING
                required = not (has_default or rule.is_optional)
                check = _check(one.name, kind, rule)
                name = one.name.removesuffix("_s")
                proposal = one.default.value if isinstance(one.default, Enum) else ""
                found[name] = Key(
                    one.name, check, rule.text, required, proposal if rule.is_asked else None
                )
    return found


def _check(name: str, kind: Any, rule: Setting) -> checks.ValueCheck:
    if rule.kind:
        check: checks.ValueCheck = getattr(checks, rule.kind)
        return check
    if get_origin(kind) in (Union, types.UnionType):
        kind = next(one for one in get_args(kind) if one is not type(None))
    if name.endswith("_s"):
        return checks.duration(rule.least, rule.most)
    if kind is int:
        return checks.integer(int(rule.least), int(rule.most))
    if kind is float:
        return checks.number(rule.least, rule.most)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return checks.choice(kind)
    return _OF_TYPE.get(kind, checks.scalars)


CLOUDS: Final[Mapping[str, type[CloudSettings]]] = {
    "ec2": Ec2Settings,
    "openstack": OpenStackSettings,
    "rackspace": RackspaceSettings,
    "libcloud": LibcloudSettings,
}
"""Providers that are clouds, and what their tables hold."""

TABLES_OF: Final[Mapping[str, tuple[str, ...]]] = {
    "local": ("local",),
    "ssh": ("host",),
    **{name: (name, "node") for name in CLOUDS},
}
"""Providers there are, and the tables that each needs."""

PROVIDERS: Final = tuple(TABLES_OF)

TABLES: Final[Tables] = {
    "remote": {
        "provider": Key("provider", checks.text, "where nodes come from", required=True),
        "arches": Key("arches", checks.words, "architectures of the nodes"),
        "fallback": Key(
            "fallback",
            checks.strings,
            "remotes to turn to, in this order, if this one has no node",
        ),
        "scratch": Key("scratch", checks.flag, "true: what it builds never counts as a release"),
        "then": Key(
            "then", checks.text, "remote that builds again what succeeds here, and publishes that"
        ),
    },
    "local": _keys(LocalSettings),
    **{name: _keys(settings) for name, settings in CLOUDS.items()},
    "node": Each(_keys(NodeSettings), checks.plain_word),
    "host": Each(_keys(HostSettings), checks.plain_word),
    "budget": _keys(Budget),
    "attest": _keys(AttestSettings),
    "lease": _keys(LeaseLimits),
    "build": _keys(BuildSettings),
    "audit": _keys(AuditSettings),
    "provenance": _keys(ProvenanceSettings),
    "notify": _keys(NotifySettings),
    "toolkit": _keys(ToolkitSettings),
}


def tables_without_files() -> Tables:
    """`TABLES` for a reader who needs none of the files and directories they name.

    Nodes must end, whatever happened to the manifest that they were attested by.
    """
    plain: dict[checks.ValueCheck, checks.ValueCheck] = {
        checks.file: checks.path, checks.directory: checks.path, checks.files: checks.paths,
        checks.policy: checks.text,
    }  # fmt: skip

    def unchecked(keys: Mapping[str, Key]) -> dict[str, Key]:
        return {
            name: replace(key, check=plain.get(key.check, key.check)) for name, key in keys.items()
        }

    return {
        name: replace(keys, keys=unchecked(keys.keys))
        if isinstance(keys, Each)
        else unchecked(keys)
        for name, keys in TABLES.items()
    }
