# SPDX-License-Identifier: GPL-2.0-or-later
"""What a node may ask the proxy for. Everything that no entry names is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes, urlsplit

from mock_cloud.network import DEFAULT_PORTS, Proxy
from mock_cloud.repoproxy.access import Scope
from mock_cloud.wire.dataclass import dataclass

if TYPE_CHECKING:
    from mock_cloud.repoproxy.repository import ServedRepository

FILES_HOST: Final = "files.mock-cloud.invalid"
"""Stands for this machine's own files: ``http://HOST/PATH`` is ``file:///PATH`` (RFC 6761, 6.4)."""
LISTS_HOST: Final = "lists.mock-cloud.invalid"
"""Has the mirror lists, as this machine fetched them."""

_HOST_MAX: Final = 253  # RFC 1035, 2.3.4, as text


@dataclass(frozen=True, slots=True)
class AllowedPlace:
    """An http URL and what lies below it, or only itself where `exact`.

    `path` is decoded; unless `exact` it ends with a slash. `query` must be the same. The
    host's address must be in the `scope`.
    """

    host: str
    port: int
    path: str
    query: str = ""
    exact: bool = False
    scope: Scope = Scope.ANY
    proxy: Proxy | None = None

    def covers(self, host: str, port: int, path: str, query: str) -> bool:
        if (host, port, query) != (self.host, self.port, self.query):
            return False
        return path == self.path if self.exact else path.startswith(self.path)


@dataclass(frozen=True, slots=True)
class End:
    """A host and port to which TLS connections may be made: what they ask for stays unseen."""

    host: str
    port: int
    scope: Scope = Scope.ANY
    proxy: Proxy | None = None


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file of this machine: `path` is relative to the directory that was allowed."""

    directory: Path
    path: str


@dataclass(frozen=True, slots=True)
class AllowList:
    """All that may be reached; empty by default. `documents` are by their decoded path.

    Each of `repositories` has a host of its own, and may have files at other URLs.
    """

    places: tuple[AllowedPlace, ...] = ()
    ends: tuple[End, ...] = ()
    directories: tuple[Path, ...] = ()
    documents: Mapping[str, bytes] = field(default_factory=dict)
    repositories: tuple[ServedRepository, ...] = ()

    def find(self, url: str) -> AllowedPlace | LocalFile | ServedRepository | bytes | None:
        """What an absolute http URL leads to; None if it is not allowed, or no such URL."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            return None
        path = plain_path(parts.path)
        if parts.scheme != "http" or not parts.hostname or path is None or parts.fragment:
            return None
        host, port = plain_host(parts.hostname), 80 if port is None else port
        if host == LISTS_HOST:
            return self.documents.get(path) if port == 80 and not parts.query else None
        if host == FILES_HOST:
            return self._local_file(path) if port == 80 and not parts.query else None
        for repository in self.repositories:
            if host == repository.access.host:
                return repository if port == 80 and not parts.query else None
        covering = (one for one in self.places if one.covers(host, port, path, parts.query))
        # The configuration's own URL counts more than a list's that names the same.
        return min(covering, key=_reserve, default=None)

    def find_end(self, host: str, port: int) -> End | None:
        """The entry for a TLS connection there, or None."""
        host = plain_host(host)
        there = (one for one in self.ends if (one.host, one.port) == (host, port))
        return min(there, key=_reserve, default=None)

    def _local_file(self, path: str) -> LocalFile | None:
        for directory in self.directories:
            base = str(directory).rstrip("/") + "/"
            if path.startswith(base):
                return LocalFile(directory, path[len(base) :])
        return None


def _reserve(one: AllowedPlace | End) -> int:
    return list(Scope).index(one.scope)


def plain_host(host: str) -> str:
    """A host's name as it is compared."""
    return host.lower().rstrip(".")


def plain_path(raw: str) -> str | None:
    """`raw` with percent escapes decoded; None if a server could read it in two ways.

    That is: a part ``.`` or ``..``, also before a semicolon, which some servers cut away; an
    encoded slash, a backslash, a control character, bytes that are not UTF-8.
    """
    if not raw.startswith("/") or not raw.isascii():
        return None
    try:
        parts = [unquote_to_bytes(part).decode() for part in raw.split("/")]
    except UnicodeDecodeError:
        return None
    for part in parts:
        if part.partition(";")[0] in (".", "..") or any(
            one in "/\\" or ord(one) < 32 or ord(one) == 127 for one in part
        ):
            return None
    return "/".join(parts)


def allow_url(
    url: str, *, exact: bool = False, scope: Scope = Scope.ANY, proxy: Proxy | None = None
) -> AllowedPlace | End | None:
    """The entry for an http or https URL of a configuration; None if it is neither.

    An https URL opens its whole host and port. `proxy` is the way there.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORTS.get(parts.scheme, 0)
    except ValueError:
        return None
    path = plain_path(parts.path or "/")
    if not parts.hostname or len(parts.hostname) > _HOST_MAX or not port or path is None:
        return None
    host = plain_host(parts.hostname)
    if parts.scheme == "https":
        return End(host, port, scope, proxy)
    if not exact:
        path = path.rstrip("/") + "/"
    return AllowedPlace(host, port, path, parts.query, exact, scope, proxy)
