# SPDX-License-Identifier: GPL-2.0-or-later
"""Remotes: finds, reads and chooses among the files ``remotes.d/NAME.toml``."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mock_cloud.config.chroots import MOCK_CONFIG_DIR, user_home
from mock_cloud.config.toml_tables import (
    Document,
    Key,
    Tables,
    choice,
    directory,
    duration,
    file,
    files,
    integer,
    loopback,
    read_document,
    text,
    words,
)
from mock_cloud.errors import ConfigError
from mock_cloud.invocation.names import find_name_problem, printable
from mock_cloud.settings import (
    AttestSettings,
    BuildSettings,
    EngineChoice,
    LeaseLimits,
    LocalSettings,
    Remote,
    SecondLook,
)

PROVIDERS: Final = ("local",)
"""Providers there are; each has a table of its own name."""

_WEEK_S: Final = 7 * 86400.0
_HOUR_S: Final = 3600.0
_DAY_S: Final = 86400.0

TABLES: Final[Tables] = {
    "remote": {
        "provider": Key("provider", text, required=True),
        "arches": Key("arches", words, required=True),
    },
    "local": {
        "image": Key("image", directory, required=True),
        "address": Key("address", loopback),
        "disk_mib": Key("disk_mib", integer(0, 16 << 20)),
        "boot_timeout": Key("boot_timeout_s", duration(1.0, _HOUR_S)),
    },
    "attest": {
        "manifest": Key("manifest", file, required=True),
        "manifest_keys": Key("manifest_keys", files, required=True),
        "package_keys": Key("package_keys", files, required=True),
        "second_look": Key("second_look", choice(SecondLook)),
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
    },
}


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A remote that exists, not read yet."""

    name: str
    path: Path


def remote_directories(configdir: Path | None = None, home: Path | None = None) -> list[Path]:
    """Where remotes are looked up, in this order; `configdir` is mock's --configdir."""
    home = home if home is not None else user_home()
    places = [configdir] if configdir is not None else []
    places += [home / ".config/mock", MOCK_CONFIG_DIR]
    return list(dict.fromkeys(place / "remotes.d" for place in places))


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


def load_remote(name: str, configdir: Path | None = None, *, home: Path | None = None) -> Remote:
    """The remote `name`. ConfigError with file, line and the mistake."""
    if find_name_problem(name) is not None:
        raise ConfigError(f"{printable(name)!r} is no name of a remote")
    places = remote_directories(configdir, home)
    for place in places:
        path = place / f"{name}.toml"
        if path.exists():
            return read_remote(name, path)
    known = [remote.name for remote in list_remotes(configdir, home)]
    near = difflib.get_close_matches(name, known, n=3) or known
    looked = ", ".join(str(place) for place in places)
    raise ConfigError(
        f"no remote {printable(name)!r}: there is no {printable(name)}.toml in {looked}",
        hint=f"there are: {', '.join(near)}"
        if near
        else f"write ~/.config/mock/remotes.d/{name}.toml, see mock-cloud-remotes(5)",
    )


def read_remote(name: str, path: Path) -> Remote:
    """The remote in the file `path`. ConfigError."""
    document = read_document(path, TABLES)
    for table in ("remote", "attest"):
        if table not in document.tables:
            document.refuse(f"the table [{table}] is missing", table)
    remote: dict[str, Any] = {**document.tables["remote"]}
    lease = LeaseLimits(**document.tables.get("lease", {}))
    if lease.idle_ttl_s > lease.max_ttl_s:
        document.refuse("idle_ttl is longer than max_ttl", "lease", "idle_ttl")
    return Remote(
        name=name,
        **remote,
        attest=AttestSettings(**document.tables["attest"]),
        lease=lease,
        build=BuildSettings(**document.tables.get("build", {})),
        local=_local(document, remote["provider"]),
        source=path,
    )


def _local(document: Document, provider: str) -> LocalSettings | None:
    if provider not in PROVIDERS:
        near = difflib.get_close_matches(provider, PROVIDERS, n=1)
        end = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(PROVIDERS)}"
        document.refuse(f"unknown provider {provider!r}; {end}", "remote", "provider")
    if "local" not in document.tables:
        document.refuse("provider 'local' needs the table [local]", "remote", "provider")
    return LocalSettings(**document.tables["local"])
