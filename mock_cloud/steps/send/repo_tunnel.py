# SPDX-License-Identifier: GPL-2.0-or-later
"""Repositories that only this machine reaches: chosen, opened to the node, closed after the job."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from mock_cloud.config.access import check_access
from mock_cloud.config.tunnel import (
    MirrorList,
    Repositories,
    Source,
    Way,
    allow_list,
    choose_way,
    file_path,
    is_file,
    plain_access,
    read_sources,
    rewrite,
    without_hosts,
)
from mock_cloud.console import Console
from mock_cloud.errors import CloudError
from mock_cloud.places import cache_dir
from mock_cloud.repoproxy.access import Access, Scope
from mock_cloud.repoproxy.allow import FILES_HOST, LISTS_HOST, AllowList
from mock_cloud.settings import Remote
from mock_cloud.wire.dnf_conf import dnf_variables
from mock_cloud.wire.job_request import EngineConfig

if TYPE_CHECKING:
    from mock_cloud.remote.trusted import TrustedChannel
    from mock_cloud.repoproxy.cache import RepositoryCache
    from mock_cloud.repoproxy.proxy import RepoProxy
    from mock_cloud.repoproxy.repository import ServedRepository
    from mock_cloud.steps.check.request import Work

_LOOK_S: Final = 3.0
_CACHE: Final = "repositories"
_LIST_MAX_BYTES: Final = 4 << 20
_WARNINGS_MAX: Final = 10
_SHOWN: Final = 300


class Tunnel:
    """What a node is told of the repositories. `port` is 0 if it reaches all by itself.

    Close it before the node is measured again: its sshd listens on the port until then. `close`
    is idempotent.
    """

    def __init__(self, repositories: Repositories) -> None:
        self.repositories = repositories
        self.port = 0
        self._tunnelled: Sequence[Source] = ()
        self._stack = ExitStack()
        self._proxy: RepoProxy | None = None

    def close(self) -> None:
        self._stack.close()

    def renew(self, channel: TrustedChannel) -> None:
        """Open the same port over another connection to the node, if there is one. TransportError.

        The former connection's is closed with that.
        """
        if self._proxy is not None:
            self._stack.callback(channel.forward(self._proxy.serve, self.port).close)

    def rewritten(self, text: str) -> str:
        """A dnf.conf with the same repositories, led through the tunnel if there is one."""
        return rewrite(replace(self.repositories, text=text), self._tunnelled)

    def _open(self, channel: TrustedChannel, tunnelled: Sequence[Source], console: Console) -> None:
        with ExitStack() as stack:
            from mock_cloud.repoproxy.cache import trim  # few builds need these
            from mock_cloud.repoproxy.proxy import RepoProxy

            lists = [one for each in tunnelled for one in _fetch_lists(each)]
            allowed = allow_list(tunnelled, lists, _served(self.repositories, tunnelled))
            stack.callback(trim, cache_dir() / _CACHE)
            proxy = RepoProxy(allowed, _Warnings(console).say)
            stack.callback(proxy.close)
            forward = channel.forward(proxy.serve)
            stack.callback(forward.close)
            stack.callback(proxy.close)  # first, so that nobody waits for a server
            self.port = forward.port
            self._proxy = proxy
            self._tunnelled = tunnelled
            self._stack = stack.pop_all()
        self.repositories = replace(
            self.repositories,
            text=rewrite(self.repositories, tunnelled),
            environment=_environment(self.repositories, allowed),
        )


def repositories_of(config: EngineConfig) -> Repositories:
    """The dnf.conf that the chroot engine is told."""
    variables = dnf_variables(config.releasever, config.target_arch, config.dnf_vars)
    return Repositories(config.dnf_conf, variables, config.repo_switches, config.environment)


def plan_ways(repositories: Repositories, remote: Remote) -> dict[Source, Way]:
    """How each enabled repository is reached from nodes of `remote`, as far as it is known.

    UnsupportedByEngine, ConfigError: before anything is leased for what cannot be.
    """
    for one in repositories.accesses:
        check_access(one, remote.build.repo_access)
    access, shared = remote.build.repo_access, remote.shares_kernel
    return {
        source: choose_way(source, access, shares_network=shared)
        for source in read_sources(repositories)
    }


def check_ways(work: Work, remote: Remote) -> None:
    """Refuse repositories that nodes of `remote` have no way to, before one is leased."""
    if work.needs_repositories:
        plan_ways(work.repositories, remote)


def open_tunnel(
    channel: TrustedChannel, repositories: Repositories, remote: Remote, console: Console
) -> Tunnel:
    """Let the node reach what only this machine does. ForwardingRefused, CloudError."""
    ways = plan_ways(repositories, remote)
    asked = [source for source, way in ways.items() if way is Way.ASKED]
    ours = set(_reached_only_here(channel, asked)) if asked else set()
    tunnelled = [one for one, way in ways.items() if way is Way.TUNNEL or one in ours]
    tunnel = Tunnel(repositories)
    if tunnelled or repositories.accesses:
        names = ", ".join([*(x.id for x in repositories.accesses), *(x.id for x in tunnelled)])
        console.info(f"remote {remote.name}: reached through this machine: {names}")
        tunnel._open(channel, tunnelled, console)
    return tunnel


def _reached_only_here(channel: TrustedChannel, asked: Sequence[Source]) -> list[Source]:
    """Those that the node reaches nothing of, and this machine something."""
    from mock_cloud.wire.reach import find_reached  # on use, as above

    ends = list(dict.fromkeys(end for source in asked for end in source.ends))
    theirs = dict(zip(ends, channel.find_reached(ends, _LOOK_S), strict=True))
    lost = [source for source in asked if not any(theirs[end] for end in source.ends)]
    proxied = [one for one in lost if any(one.find_proxy(url) for url in one.urls)]
    lost = [source for source in lost if source not in proxied]
    ends = list(dict.fromkeys(end for source in lost for end in source.ends))
    mine = dict(zip(ends, find_reached(ends, _LOOK_S), strict=True))
    return proxied + [source for source in lost if any(mine[end] for end in source.ends)]


def _environment(repositories: Repositories, allowed: AllowList) -> dict[str, str]:
    """dnf's, without words of no_proxy that would keep it from the tunnel."""
    hosts = {FILES_HOST, LISTS_HOST} | {one.access.host for one in allowed.repositories}
    hosts |= {one.host for one in allowed.places} | {one.host for one in allowed.ends}
    return {
        name: without_hosts(value, hosts) if name.lower() == "no_proxy" else value
        for name, value in repositories.environment.items()
    }


def _fetch_lists(source: Source) -> Iterable[MirrorList]:
    for option, url in source.lists:
        try:
            text, final = _fetch(source, url)
        except (OSError, ValueError) as error:
            raise CloudError(
                f"the {option} of repository {source.id!r} cannot be had: {url}: {error}",
                hint="it was fetched on this machine, for a node that does not reach it",
            ) from error
        is_own = is_file(url)
        scope = Scope.ANY if is_own else max(_scope(url), _scope(final), key=list(Scope).index)
        yield MirrorList(source.id, option, text, scope, is_own)


def _fetch(source: Source, url: str) -> tuple[str, str]:
    """The text of a mirror list, and the URL that it came from in the end. OSError, ValueError."""
    if is_file(url):
        with file_path(url).open("rb") as stream:
            data, final = stream.read(_LIST_MAX_BYTES + 1), url
    else:
        from mock_cloud.repoproxy.fetch import fetch

        data, final = fetch(plain_access(source), url, _LIST_MAX_BYTES)
    if len(data) > _LIST_MAX_BYTES:
        raise ValueError(f"it has more than {_LIST_MAX_BYTES} bytes")
    return data.decode("utf-8", "replace"), final


def _scope(url: str) -> Scope:
    """Where the mirrors may be that the URL's server names."""
    from mock_cloud.repoproxy.upstream import scope_beyond

    return scope_beyond(urlsplit(url).hostname or "")


def _served(repositories: Repositories, tunnelled: Sequence[Source]) -> list[ServedRepository]:
    """The repositories that this machine fetches, and those of which it knows what they list."""
    from mock_cloud.repoproxy.repository import ServedRepository

    plain = [plain_access(one) for one in tunnelled]
    accesses = (*repositories.accesses, *(one for one in plain if one.baseurls or one.lists))
    return [ServedRepository(one, _cache_of(one)) for one in accesses]


def _cache_of(access: Access) -> RepositoryCache | None:
    from mock_cloud.repoproxy.cache import RepositoryCache

    try:
        return RepositoryCache(cache_dir() / _CACHE, access.identity)
    except OSError:
        return None  # a full disk, say: it is fetched each time


class _Warnings:
    """Says each thing once, and no more than a few: a node chooses how often it asks."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = threading.Lock()
        self._said: set[str] = set()

    def say(self, text: str) -> None:
        text = text[:_SHOWN]
        with self._lock:
            if text in self._said or len(self._said) > _WARNINGS_MAX:
                return
            self._said.add(text)
            is_last = len(self._said) > _WARNINGS_MAX
        self._console.warning("more requests like these are not shown" if is_last else text)
