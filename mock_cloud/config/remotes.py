# SPDX-License-Identifier: GPL-2.0-or-later
"""Remotes: finds, reads and chooses among the files ``remotes.d/NAME.toml``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NoReturn

from mock_cloud import places
from mock_cloud.config.remote_tables import (
    CLOUDS,
    PROVIDERS,
    TABLES,
    TABLES_OF,
    tables_without_files,
)
from mock_cloud.config.toml_tables import Document, read_document
from mock_cloud.errors import ConfigError
from mock_cloud.invocation.names import find_name_problem
from mock_cloud.model import ED25519, Secret
from mock_cloud.places import MOCK_CONFIG_DIR
from mock_cloud.settings import (
    AttestSettings,
    AuditSettings,
    Budget,
    BuildSettings,
    HostSettings,
    LeaseLimits,
    LocalSettings,
    NodeSettings,
    NotifySettings,
    ProvenanceSettings,
    Remote,
    ToolkitSettings,
)
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.terminal_text import printable

_SECRET_ARGUMENT: Final = re.compile(r"key|secret|pass|token|credential", re.IGNORECASE)
"""Arguments of drivers that are secrets; with some drivers ``key`` is all there is."""

_OWN_NODES_S: Final = 120.0
"""So long a verdict is relied on where a cloud gives nodes to nobody else: docs/decisions/0094."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A remote that exists, not read yet."""

    name: str
    path: Path


def remote_directories(configdir: Path | None = None, home: Path | None = None) -> list[Path]:
    """Where remotes are looked up, in this order; `configdir` is mock's --configdir."""
    config_home = places.config_home() if home is None else home / ".config"
    found = [configdir] if configdir is not None else []
    found += [config_home / "mock", MOCK_CONFIG_DIR]
    return list(dict.fromkeys(place / "remotes.d" for place in found))


def list_remotes(configdir: Path | None = None, home: Path | None = None) -> list[RemoteFile]:
    """The remotes there are, by name; the first of two with one name counts."""
    found: dict[str, RemoteFile] = {}
    for place in remote_directories(configdir, home):
        try:
            paths = sorted(place.glob("*.toml"))
        except OSError as error:
            raise ConfigError(f"cannot read {place}: {error.strerror}") from error
        for path in paths:
            if find_name_problem(path.stem) is None:
                found.setdefault(path.stem, RemoteFile(path.stem, path))
    return [found[name] for name in sorted(found)]


def load_remote(
    name: str,
    configdir: Path | None = None,
    *,
    home: Path | None = None,
    to_end: bool = False,
) -> Remote:
    """The remote `name`. ConfigError with file, line and the mistake.

    `to_end`: only nodes are to be ended, for which no manifest, key or tree need be there.
    """
    problem = find_name_problem(name)
    if problem is not None:
        raise ConfigError(f"invalid remote name {printable(name)!r}: {problem}")
    directories = remote_directories(configdir, home)
    for place in directories:
        path = place / f"{name}.toml"
        if path.exists():
            return read_remote(name, path, to_end=to_end)
    known = [remote.name for remote in list_remotes(configdir, home)]
    near = difflib.get_close_matches(name, known, n=3) or known
    looked = ", ".join(str(place) for place in directories)
    raise ConfigError(
        f"no remote {printable(name)!r}: there is no {printable(name)}.toml in {looked}",
        hint=f"there are: {', '.join(near)}"
        if near
        else f"mock-cloud setup {name} writes one, see mock-cloud-remotes(5)",
    )


def read_remote(name: str, path: Path, *, to_end: bool = False) -> Remote:
    """The remote in the file `path`; see `load_remote`. ConfigError."""
    document = read_document(path, tables_without_files() if to_end else TABLES)
    for table in ("remote", "attest"):
        if table not in document.tables:
            document.refuse(f"the table [{table}] is missing", table)
    provider = _provider(document)
    _refuse_open_secrets(document)
    lease = LeaseLimits(**document.tables.get("lease", {}))
    if lease.idle_ttl_s > lease.max_ttl_s:
        document.refuse("idle_ttl is longer than max_ttl", "lease", "idle_ttl")
    budget = document.tables.get("budget")
    hosts = _hosts(document)
    nodes = {
        arch: NodeSettings(**values) for arch, values in document.tables.get("node", {}).items()
    }
    return Remote(
        name=name,
        provider=provider,
        arches=_arches(document, hosts, nodes),
        attest=AttestSettings(
            **{
                "manifest": None,
                "verdict_max_age_s": _OWN_NODES_S if provider in CLOUDS else 0.0,
                **document.tables["attest"],
            }
        ),
        lease=lease,
        build=BuildSettings(**document.tables.get("build", {})),
        toolkit=_toolkit(document),
        audit=AuditSettings(**document.tables.get("audit", {})),
        provenance=ProvenanceSettings(**document.tables.get("provenance", {})),
        notify=NotifySettings(**document.tables.get("notify", {})),
        fallback=document.tables["remote"].get("fallback", ()),
        scratch=document.tables["remote"].get("scratch", False),
        then=document.tables["remote"].get("then", ""),
        budget=None if budget is None else Budget(**budget),
        local=LocalSettings(**document.tables["local"]) if provider == "local" else None,
        cloud=CLOUDS[provider](**document.tables[provider]) if provider in CLOUDS else None,
        nodes=nodes,
        hosts=hosts,
        source=path,
    )


def _toolkit(document: Document) -> ToolkitSettings:
    """The table [toolkit]: one whole source, or none."""
    found = document.tables.get("toolkit", {})
    for first, wanted, others in (
        ("mirror", ("suite", "keyring"), ("repository", "key")),
        ("repository", ("key",), ("mirror", "suite", "keyring")),
    ):
        missing = [name for name in wanted if name not in found]
        if first in found and missing:
            document.refuse(f"{first} needs {' and '.join(missing)}", "toolkit", first)
        for name in others if first in found else ():
            if name in found:
                document.refuse(f"{name} does not go with {first}", "toolkit", name)
    if found and not {"mirror", "repository"} & set(found):
        document.refuse("a mirror or a repository is wanted", "toolkit")
    return ToolkitSettings(**found)


def _provider(document: Document) -> str:
    """The provider's name; its tables are there and no other provider's."""
    provider: str = document.tables["remote"]["provider"]
    if provider not in PROVIDERS:
        near = difflib.get_close_matches(provider, PROVIDERS, n=1)
        end = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(PROVIDERS)}"
        document.refuse(f"unknown provider {provider!r}; {end}", "remote", "provider")
    wanted = TABLES_OF[provider]
    for table in wanted:
        if table not in document.tables:
            shown = f"{table}.NAME" if table in ("node", "host") else table
            document.refuse(
                f"provider {provider!r} needs the table [{shown}]", "remote", "provider"
            )
    for table in {name for names in TABLES_OF.values() for name in names} - set(wanted):
        if table in document.tables:
            document.refuse(f"the table [{table}] is not for provider {provider!r}", table)
    return provider


def _refuse_open_secrets(document: Document) -> None:
    if not document.path.stat().st_mode & 0o077:
        return
    for table, values in document.tables.items():
        for key, value in values.items():
            if isinstance(value, Secret):
                _refuse_open(document, table, key)
    for key, value in document.tables.get("libcloud", {}).get("arguments", {}).items():
        is_literal = isinstance(value, str) and not value.startswith("env:")
        if is_literal and _SECRET_ARGUMENT.search(key):
            _refuse_open(document, "libcloud.arguments", key, 'write "env:NAME", or ')


def _refuse_open(document: Document, table: str, key: str, instead: str = "") -> NoReturn:
    document.refuse(
        f"{key} is a secret, and others may read this file: {instead}chmod 600 it", table, key
    )


def _arches(
    document: Document, hosts: Sequence[HostSettings], nodes: Mapping[str, NodeSettings]
) -> tuple[str, ...]:
    """Which architectures its nodes have: as written, else those of its nodes or hosts."""
    there = tuple(nodes) or tuple(dict.fromkeys(host.arch for host in hosts))
    written: tuple[str, ...] = document.tables["remote"].get("arches", there)
    if not written:
        document.refuse("[remote] lacks the key 'arches'", "remote")
    for arch in written:
        if there and arch not in there:
            document.refuse(f"there is no node or host of arch {arch!r}", "remote", "arches")
    return written


def _hosts(document: Document) -> tuple[HostSettings, ...]:
    hosts = []
    for name, values in document.tables.get("host", {}).items():
        if ("host_key" in values) == ("host_ca" in values):
            document.refuse(
                f"host {name}: one of host_key and host_ca is wanted: no key is taken on trust",
                f"host.{name}",
            )
        if values.get("user", "root") != "root":
            document.refuse(
                f"host {name}: only root can measure a machine; let root log in with your key",
                f"host.{name}",
                "user",
            )
        owner_key = values.get("owner_key")
        if owner_key is not None and owner_key.algorithm != ED25519:
            document.refuse(
                f"host {name}: owner_key is a key of the kind {owner_key.algorithm}, whose"
                f" signatures are not verified here: owners sign with {ED25519}",
                f"host.{name}",
                "owner_key",
            )
        if values.get("certificate") and "identity" not in values:
            document.refuse(
                f"host {name}: certificate wants an identity, the key that signs it",
                f"host.{name}",
                "certificate",
            )
        hosts.append(HostSettings(name=name, **values))
    return tuple(hosts)
