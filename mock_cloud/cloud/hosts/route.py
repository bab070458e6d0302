# SPDX-License-Identifier: GPL-2.0-or-later
"""The way to a host, as OpenSSH's own configuration says it (``ssh -G``).

Jump hosts are reached with OpenSSH's client, which checks their keys against the user's
known_hosts, always strictly and without questions, whatever the configuration says.
"""

from __future__ import annotations

import os
import pwd
import re
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from mock_cloud import places
from mock_cloud.errors import ConfigError
from mock_cloud.model import UserKeys
from mock_cloud.process import CommandFailed, own_environment, run
from mock_cloud.settings import HostSettings
from mock_cloud.wire.dataclass import dataclass

CONNECT_TIMEOUT_S: Final = 10
_ASK_TIMEOUT_S: Final = 10.0
_MOST_HOPS: Final = 8
_DEFAULT_PORT: Final = 22

STRICT: Final = (
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "CheckHostIP=no",
    "UpdateHostKeys=no",
    "ControlMaster=no",
    "ControlPath=none",
    "ForwardAgent=no",
    "PermitLocalCommand=no",
    "LogLevel=INFO",
    f"ConnectTimeout={CONNECT_TIMEOUT_S}",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
)
"""Options of every call of OpenSSH's client: no question, no guess, no process that stays."""

_JUMP: Final = re.compile(
    r"(?:ssh://)?(?:(?P<user>[^@]+)@)?(?:\[(?P<v6>[^]]+)\]|(?P<host>[^:@]+))(?::(?P<port>\d+))?/?"
)


@dataclass(frozen=True, slots=True)
class Hop:
    """A command whose stdin and stdout lead one step on; `name` is whom it goes through."""

    name: str
    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Route:
    """Where a host's sshd is, with which keys one logs in, and through whom one gets there.

    Each hop's command contains the one before; the last one leads to the host. None: by TCP.
    """

    host: str
    port: int
    keys: UserKeys
    hops: tuple[Hop, ...] = ()

    @property
    def proxy(self) -> tuple[str, ...]:
        """The whole way, for `NodeAddress.proxy`."""
        return self.hops[-1].argv if self.hops else ()


def find_route(host: HostSettings) -> Route:
    """What OpenSSH would do to reach `host`. ConfigError."""
    port = host.port if host.port != _DEFAULT_PORT else None
    where = _Place.ask(host.ssh_config, host.address, host.user, port)
    if host.jump:
        way = {"proxyjump": (host.jump,), "proxycommand": ("none",)}
        where = replace(where, values={**where.values, **way})
    try:
        keys = where.keys(host.identity)
        if host.certificate:
            keys = replace(keys, certifies=host.user)
        return Route(where.host, where.port, keys, _hops(where, 0))
    except ConfigError as error:
        raise ConfigError(f"host {host.name}: {error.message}", hint=error.hint) from error


def find_jump(jump: str, host: str, port: int) -> tuple[str, ...]:
    """The way to `host` through jump hosts, as ``ssh -J`` names them. ConfigError."""
    beyond = _Place(host, None, {"hostname": (host,), "port": (str(port),), "proxyjump": (jump,)})
    return _hops(beyond, 0)[-1].argv


def quote_command(argv: tuple[str, ...]) -> str:
    """A command as the value of OpenSSH's ProxyCommand."""
    return shlex.join(argv).replace("%", "%%")


@dataclass(frozen=True, slots=True)
class _Place:
    """What ``ssh -G`` says about one name."""

    name: str
    config: Path | None
    values: Mapping[str, tuple[str, ...]]

    @classmethod
    def ask(cls, config: Path | None, name: str, user: str | None, port: int | None) -> _Place:
        argv = ["ssh", *_config_words(config), *(("-l", user) if user else ())]
        argv += [*(("-p", str(port)) if port else ()), "-G", "--", name]
        try:
            text = run(argv, timeout_s=_ASK_TIMEOUT_S, extra_env=own_environment()).decode(
                errors="replace"
            )
        except CommandFailed as error:
            raise ConfigError(
                f"OpenSSH's configuration cannot be read for {name!r}: {error.output.strip()}",
                hint=f"try: {shlex.join(argv)}",
            ) from error
        values: dict[str, tuple[str, ...]] = {}
        for line in text.splitlines():
            key, _, value = line.partition(" ")
            values[key] = (*values.get(key, ()), value)
        return cls(name, config, values)

    def one(self, key: str) -> str:
        return self.values.get(key, ("",))[0]

    @property
    def host(self) -> str:
        return self.one("hostname")

    @property
    def port(self) -> int:
        return int(self.one("port") or _DEFAULT_PORT)

    @property
    def proxy_command(self) -> str:
        command = self.one("proxycommand")
        return "" if command == "none" else command

    @property
    def jumps(self) -> list[str]:
        jumps = self.one("proxyjump")
        return jumps.split(",") if jumps not in ("", "none") else []

    def keys(self, identity: Path | None) -> UserKeys:
        """`identity` and nothing else, or the identity files that exist and the agent's keys."""
        agent = _agent(self.one("identityagent"))
        if identity is not None:
            return UserKeys((str(identity),), whole_agent=False, agent=agent)
        files = (self.expand(name) for name in self.values.get("identityfile", ()))
        there = tuple(_with_home(name) for name in files if name)
        return UserKeys(
            tuple(name for name in there if Path(name).is_file()),
            whole_agent=self.one("identitiesonly") != "yes",
            agent=agent,
        )

    def expand(self, text: str) -> str:
        """`text` with ssh_config(5)'s tokens replaced. ConfigError for one that is not known."""
        tokens = {
            "%%": "%",
            "%d": str(_ssh_home()),
            "%h": self.host,
            "%n": self.name,
            "%p": str(self.port),
            "%r": self.one("user"),
            "%u": pwd.getpwuid(os.getuid()).pw_name,
        }

        def replaced(found: re.Match[str]) -> str:
            if found[0] not in tokens:
                raise ConfigError(
                    f"{found[0]} in OpenSSH's configuration for {self.name!r} is not supported",
                    hint=f"supported are {' '.join(tokens)}",
                )
            return tokens[found[0]]

        return re.sub(r"%.?", replaced, text)


def _config_words(config: Path | None) -> tuple[str, ...]:
    return () if config is None else ("-F", str(config))


def _hops(place: _Place, depth: int) -> tuple[Hop, ...]:
    """The hops to `place`, each through the ones before it."""
    if depth > _MOST_HOPS:
        raise ConfigError(f"the jump hosts to {place.name!r} lead round in a circle")
    if place.proxy_command:
        command = place.expand(place.proxy_command)
        return (Hop(f"ProxyCommand {command!r}", ("/bin/sh", "-c", f"exec {command}")),)
    jumps = [_ask_jump(place.config, text) for text in place.jumps]
    if not jumps:
        return ()
    hops = list(_hops(jumps[0], depth + 1))  # the first one has a way of its own; as ssh -J has it
    for jump, beyond in zip(jumps, [*jumps[1:], place], strict=True):
        before = hops[-1].argv if hops else ()
        hops.append(Hop(f"jump host {jump.name}", _forward(jump, beyond, before)))
    if len(hops) > _MOST_HOPS:
        raise ConfigError(f"more than {_MOST_HOPS} jump hosts lead to {place.name!r}")
    return tuple(hops)


def _ask_jump(config: Path | None, text: str) -> _Place:
    found = _JUMP.fullmatch(text)
    if found is None:
        raise ConfigError(f"{text!r} is not a jump host", hint="say [user@]host[:port]")
    port = int(found["port"]) if found["port"] else None
    return _Place.ask(config, found["v6"] or found["host"], found["user"], port)


def _forward(jump: _Place, beyond: _Place, before: tuple[str, ...]) -> tuple[str, ...]:
    way = quote_command(before) if before else "none"
    options = [word for option in (*STRICT, f"ProxyCommand={way}") for word in ("-o", option)]
    login = ["-l", jump.one("user"), "-p", str(jump.port)]
    target = f"[{beyond.host}]:{beyond.port}"
    return ("ssh", *_config_words(jump.config), *options, *login, "-W", target, "--", jump.name)


def _ssh_home() -> Path:
    """The home directory as OpenSSH has it: from the password database, not $HOME."""
    return places.password_home() or Path("/nonexistent")


def _agent(named: str) -> str | None:
    """The SSH agent's socket that IdentityAgent names, for `UserKeys`."""
    if named.startswith("$"):
        return os.environ.get(named[1:].strip("{}"), "")
    usual = {"": None, "SSH_AUTH_SOCK": None, "none": ""}
    return usual[named] if named in usual else _with_home(named)


def _with_home(name: str) -> str:
    return str(_ssh_home() / name[2:]) if name.startswith("~/") else str(Path(name).expanduser())
