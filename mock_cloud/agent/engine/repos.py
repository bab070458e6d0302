# SPDX-License-Identifier: GPL-2.0-or-later
"""Repositories of a dnf.conf and their revisions.

A revision is the sha256 of a repository's repomd.xml: it names the whole content, since
repomd.xml holds the digests of everything else. It is looked up for every job, so that a
layer made from older metadata is never used.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from mock_cloud.agent.engine.errors import ConfigurationError, PackageManagerError
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.dnf_conf import (
    DnfConfError,
    RepoSection,
    dnf_variables,
    expand,
    read_repositories,
)
from mock_cloud.wire.job_request import TUNNEL_PROXY

if TYPE_CHECKING:
    import urllib.request

_FETCH_TIMEOUT_S: Final = 20.0
_REPOMD_MAX: Final = 16 << 20
_MIRRORS_TRIED: Final = 5
_METALINK_HASH: Final = re.compile(rb'<hash\s+type="sha256"\s*>\s*([0-9a-fA-F]{64})\s*<')


@dataclass(frozen=True, slots=True)
class Repository:
    """One enabled repository: where its metadata may be had, and how to reach it."""

    id: str
    baseurls: tuple[str, ...]
    mirrorlist: str
    metalink: str
    skip_if_unavailable: bool
    sslverify: bool
    sslcacert: str
    proxy: str
    tunnel: str = ""
    """The URL of the controller's proxy, for a repository that is reached through it."""

    @property
    def where(self) -> str:
        """The URL to name in a message."""
        return (self.baseurls or (self.metalink or self.mirrorlist or "no URL",))[0]


def parse_repositories(
    dnf_conf: str,
    *,
    releasever: str,
    arch: str,
    variables: Mapping[str, str],
    switches: Sequence[Sequence[str]],
    tunnel: str = TUNNEL_PROXY,
) -> list[Repository]:
    """The enabled repositories of a dnf.conf, after ``--enablerepo`` and ``--disablerepo``.

    `tunnel` is where the controller's proxy answers. ConfigurationError if the text is no
    dnf.conf.
    """
    known = dnf_variables(releasever, arch, variables)
    try:
        return [
            _repository(one, known, tunnel) for one in read_repositories(dnf_conf, known, switches)
        ]
    except DnfConfError as error:
        raise ConfigurationError(f"dnf.conf cannot be parsed: {error}") from error


def _repository(section: RepoSection, known: Mapping[str, str], tunnel: str) -> Repository:
    def text(name: str) -> str:
        return expand(section.get(name), known)

    return Repository(
        id=section.id,
        baseurls=tuple(url.rstrip("/") for url in re.split(r"[\s,]+", text("baseurl")) if url),
        mirrorlist=text("mirrorlist"),
        metalink=text("metalink"),
        skip_if_unavailable=section.is_set("skip_if_unavailable"),
        sslverify=section.is_set("sslverify", default=True),
        sslcacert=text("sslcacert"),
        proxy=text("proxy") if text("proxy") not in ("_none_", TUNNEL_PROXY) else "",
        tunnel=tunnel if text("proxy") == TUNNEL_PROXY else "",
    )


def fetch_revisions(repositories: Sequence[Repository], ca_bundle: str | None) -> dict[str, str]:
    """Repository id → sha256 (hex) of its repomd.xml now, all fetched side by side.

    A repository with skip_if_unavailable that cannot be had is left out; any other one raises
    PackageManagerError naming it and its URL. `ca_bundle` is the node's PEM file for https.
    """
    found: dict[str, str] = {}
    failures: dict[str, str] = {}

    def look(repository: Repository) -> None:
        try:
            found[repository.id] = _revision(repository, ca_bundle)
        except (OSError, ValueError) as error:
            # urllib's own text for an HTTP status has the number, its reason has not.
            reason = None if hasattr(error, "code") else getattr(error, "reason", None)
            failures[repository.id] = str(reason or error)

    threads = [threading.Thread(target=look, args=(item,)) for item in repositories[1:]]
    for thread in threads:
        thread.start()
    for item in repositories[:1]:
        look(item)
    for thread in threads:
        thread.join()
    for item in repositories:
        if item.id in failures and not item.skip_if_unavailable:
            raise PackageManagerError(
                f"repository '{item.id}' cannot be used: {item.where}: {failures[item.id]}"
            )
    return {item.id: found[item.id] for item in repositories if item.id in found}


def _revision(repository: Repository, ca_bundle: str | None) -> str:
    fetch = _fetcher(repository, ca_bundle)
    urls = list(repository.baseurls)
    if not urls and repository.metalink:
        match = _METALINK_HASH.search(fetch(repository.metalink))
        if match is None:
            raise ValueError("the metalink has no sha256 of repomd.xml")
        return match[1].decode().lower()
    if not urls and repository.mirrorlist:
        lines = fetch(repository.mirrorlist).decode("utf-8", "replace").split()
        urls = [line.rstrip("/") for line in lines if "://" in line]
    if not urls:
        raise ValueError("it has no baseurl, mirrorlist or metalink")
    problem: OSError | ValueError = ValueError("no mirror")
    for url in urls[:_MIRRORS_TRIED]:
        try:
            return hashlib.sha256(_repomd(fetch, url)).hexdigest()
        except (OSError, ValueError) as error:
            problem = error
    raise problem


def _repomd(fetch: Callable[[str], bytes], url: str) -> bytes:
    data = fetch(f"{url}/repodata/repomd.xml")
    if b"<repomd" not in data[:4096]:
        raise ValueError("repodata/repomd.xml is not repository metadata")
    return data


def _tunnel_handler(url: str) -> urllib.request.BaseHandler:
    """Takes every request there, whatever no_proxy says: only the controller knows these hosts."""
    import urllib.request

    class Tunnel(urllib.request.BaseHandler):
        handler_order = 100  # before the handlers that connect

        def http_open(self, request: urllib.request.Request) -> None:
            request.set_proxy(url.removeprefix("http://"), "http")

        https_open = http_open

    return Tunnel()


def _fetcher(repository: Repository, ca_bundle: str | None) -> Callable[[str], bytes]:
    # Imported here: a job that needs no repository should not pay for it.
    import urllib.request

    proxies = {"http": repository.proxy, "https": repository.proxy} if repository.proxy else {}
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler(proxies)]
    if repository.tunnel:
        handlers = [_tunnel_handler(repository.tunnel)]
    if any(url.startswith("https") for url in (*repository.baseurls, repository.where)):
        import ssl

        context = ssl.create_default_context(cafile=repository.sslcacert or ca_bundle)
        if not repository.sslverify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        handlers.append(urllib.request.HTTPSHandler(context=context))
    opener = urllib.request.build_opener(*handlers)

    def fetch(url: str) -> bytes:
        if not url.startswith(("http://", "https://", "ftp://", "file:///")):
            raise ValueError(f"{url}: not a URL of a known kind")
        with opener.open(url, timeout=_FETCH_TIMEOUT_S) as answer:
            data: bytes = answer.read(_REPOMD_MAX + 1)
        if len(data) > _REPOMD_MAX:
            raise ValueError(f"{url}: larger than {_REPOMD_MAX} bytes")
        return data

    return fetch
