# SPDX-License-Identifier: GPL-2.0-or-later
"""Which repositories a node reaches through this machine, and what they open of it. Pure.

Both engines' dnf.conf goes through here: `read_sources`, `choose_way`, then `rewrite` and
`allow_list`.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote, urlsplit

from mock_cloud.config.access import proxy_rule
from mock_cloud.config.repositories import reading_dnf_conf
from mock_cloud.errors import ConfigError, UnsupportedByEngine
from mock_cloud.network import DEFAULT_PORTS, Certificates, Proxy
from mock_cloud.repoproxy.access import Access, Scope
from mock_cloud.repoproxy.allow import (
    FILES_HOST,
    LISTS_HOST,
    AllowedPlace,
    AllowList,
    End,
    allow_url,
    plain_host,
)
from mock_cloud.settings import RepoAccess
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.dnf_conf import (
    SEPARATORS,
    RepoSection,
    expand,
    read_repositories,
    rewrite_options,
)
from mock_cloud.wire.job_request import TUNNEL_PROXY
from mock_cloud.wire.terminal_text import printable

if TYPE_CHECKING:
    from mock_cloud.repoproxy.repository import ServedRepository

MIRRORS_MAX: Final = 1000
_LIST_OPTIONS: Final = ("mirrorlist", "metalink")
_METALINK_URL: Final = re.compile(r"<url\b[^<>]*>\s*([^<>\s]+)\s*</url>")
_METALINK_END: Final = "repodata/repomd.xml"


@dataclass(frozen=True, slots=True)
class Repositories:
    """A dnf.conf with all that says what it means: dnf's variables, switches and environment.

    `accesses` are repositories that this machine fetches, for which the text has stand-ins.
    `environ` has the proxies by which this machine reaches others.
    """

    text: str
    variables: Mapping[str, str]
    switches: Sequence[Sequence[str]] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    accesses: tuple[Access, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Source:
    """An enabled repository: where it is had from, variables expanded.

    `lists` are (option, URL) of mirror lists, `keys` URLs of keys that dnf may fetch. `has_proxy`:
    it is configured to go through one, by itself or for its chroot. `find_proxy` says by which one
    this machine reaches a URL of it.
    """

    id: str
    baseurls: tuple[str, ...]
    lists: tuple[tuple[str, str], ...]
    keys: tuple[str, ...]
    has_proxy: bool
    verifies: bool
    find_proxy: Callable[[str], Proxy | None] = field(compare=False)

    @property
    def urls(self) -> tuple[str, ...]:
        return (*self.baseurls, *(url for _, url in self.lists))

    @property
    def ends(self) -> tuple[tuple[str, int], ...]:
        """The hosts and ports of its http and https URLs."""
        return tuple(dict.fromkeys(_end(url) for url in self.urls if _scheme(url) in DEFAULT_PORTS))


class Way(Enum):
    """How a repository is reached. `ASKED`: the node is asked whether it reaches it."""

    DIRECT = "direct"
    ASKED = "asked"
    TUNNEL = "tunnel"


@dataclass(frozen=True, slots=True)
class MirrorList:
    """A mirror list as this machine fetched it, for the option `option` of a repository.

    `scope`: where its mirrors may be, no nearer than it was itself.
    `is_own`: it is a file of this machine, and so may name directories of this machine.
    """

    repository: str
    option: str
    text: str
    scope: Scope
    is_own: bool = False


def read_sources(repositories: Repositories) -> tuple[Source, ...]:
    """The enabled ones. ConfigError for a text that is not a dnf.conf or a URL that is none."""
    variables = repositories.variables
    with reading_dnf_conf():
        found = read_repositories(repositories.text, variables, repositories.switches)
    return tuple(_source(one, repositories) for one in found)


def choose_way(source: Source, access: RepoAccess, *, shares_network: bool) -> Way:
    """The way to a repository under `access`; `shares_network`: the node has this machine's own.

    UnsupportedByEngine for one that has no such way.
    """
    files = [url for url in source.urls if is_file(url)]
    if access is RepoAccess.DIRECT:
        if files:
            raise UnsupportedByEngine(
                f"repository {source.id!r} is on this machine: {printable(files[0])}",
                hint='say repo_access = "auto" or "tunnel" in the [build] table of the remote',
            )
        return Way.DIRECT
    if not source.urls:
        return Way.DIRECT
    others = [url for url in source.urls if not is_file(url)]
    if access is RepoAccess.AUTO and not files:
        is_ours = any(_is_own(url) for url in others)
        foreign = any(allow_url(url) is None for url in others)
        if foreign or not others or shares_network:
            return Way.DIRECT
        # A proxy is this machine's: on a node its address means another one, or none.
        if not (is_ours or source.has_proxy):
            return Way.ASKED
    _check_fit(source, others)
    return Way.TUNNEL


def _check_fit(source: Source, urls: Iterable[str]) -> None:
    for url in (*urls, *source.baseurls):
        if "$" in url:
            raise UnsupportedByEngine(
                f"repository {source.id!r}: what {printable(url)} stands for is not known here",
                hint="define the variable in config_opts['dnf_vars']",
            )
    for url in source.urls:
        if is_file(url) and file_path(url).parent == file_path(url):
            raise UnsupportedByEngine(
                f"repository {source.id!r} would be all of this machine",
                hint="name the directory that has repodata/ in it",
            )
    for url in urls:
        if allow_url(url) is None:
            raise UnsupportedByEngine(
                f"repository {source.id!r} cannot be tunnelled: {printable(url)}",
                hint="http, https and file URLs can be",
            )


def rewrite(repositories: Repositories, tunnelled: Iterable[Source]) -> str:
    """The text with the way through this machine for the repositories `tunnelled`."""
    variables = repositories.variables
    ids = {source.id for source in tunnelled}

    def change(section: str, option: str, value: str) -> str | None:
        repository = expand(section, variables)
        if repository not in ids:
            return value
        if not option:
            return f"{value.rstrip()}\nproxy={TUNNEL_PROXY}\n"
        if option == "proxy":
            return None
        if option == "baseurl":
            words = SEPARATORS.split(value)
            return "".join(_file_url(expand(word, variables)) or word for word in words)
        if option in _LIST_OPTIONS:
            indent = value[: len(value) - len(value.lstrip())]
            return f"{indent}{_list_url(repository, option)}\n" if value.strip() else value
        return value

    return rewrite_options(repositories.text, change)


def allow_list(
    tunnelled: Iterable[Source],
    lists: Iterable[MirrorList],
    repositories: Iterable[ServedRepository] = (),
) -> AllowList:
    """What the repositories `tunnelled` open, `lists` being all of their mirror lists.

    And `repositories`, which are fetched by this machine.
    """
    tunnelled = tuple(tunnelled)
    by_id = {source.id: source for source in tunnelled}
    entries: list[AllowedPlace | End | None] = []
    directories: list[Path] = []
    for source in tunnelled:
        directories += [file_path(url) for url in source.baseurls if is_file(url)]
        urls = [url for url in source.baseurls if not is_file(url)]
        entries += [allow_url(url, proxy=source.find_proxy(url)) for url in urls]
        entries += [allow_url(url, exact=True, proxy=source.find_proxy(url)) for url in source.keys]
    documents = {}
    for one in lists:
        text, mirrors = read_mirrors(one)
        path = unquote(urlsplit(_list_url(one.repository, one.option)).path)
        documents[path] = text.encode()
        directories += [file_path(url) for url in mirrors if is_file(url)]
        find = by_id[one.repository].find_proxy if one.repository in by_id else lambda _url: None
        entries += [
            allow_url(url, scope=one.scope, proxy=find(url)) for url in mirrors if not is_file(url)
        ]
    return AllowList(
        tuple(dict.fromkeys(one for one in entries if isinstance(one, AllowedPlace))),
        tuple(dict.fromkeys(one for one in entries if isinstance(one, End))),
        tuple(dict.fromkeys(directories)),
        documents,
        tuple(repositories),
    )


def read_mirrors(one: MirrorList) -> tuple[str, tuple[str, ...]]:
    """The list without mirrors that cannot be tunnelled, and the base URLs of the others.

    UnsupportedByEngine if none is left.
    """
    if one.option == "metalink":
        import html

        found: list[str] = []

        def keep(match: re.Match[str]) -> str:
            url = html.unescape(match[1])
            is_fit = url.endswith(_METALINK_END) and _is_mirror(url) and len(found) < MIRRORS_MAX
            if is_fit:
                found.append(url.removesuffix(_METALINK_END))
            return match[0] if is_fit else ""

        text = _METALINK_URL.sub(keep, one.text)
    else:
        lines = (line.strip() for line in one.text.splitlines())
        found = [
            line for line in lines
            if not line.startswith("#") and (_is_mirror(line) or (one.is_own and _is_tree(line)))
        ][:MIRRORS_MAX]  # fmt: skip
        text = "".join(f"{_file_url(url) or url}\n" for url in found)
    if not found:
        raise UnsupportedByEngine(
            f"the {one.option} of repository {one.repository!r} names no mirror that can be"
            " tunnelled",
            hint="it has to name http or https mirrors; or name one as baseurl",
        )
    return text, tuple(found)


def without_hosts(no_proxy: str, hosts: Collection[str]) -> str:
    """A value of no_proxy without the words that keep one of `hosts` from the tunnel."""

    def concerns(word: str) -> bool:
        name = plain_host(word.partition(":")[0].strip().lstrip("."))
        return word.strip() == "*" or any(
            host == name or host.endswith(f".{name}") or _in_network(host, word.strip())
            for host in hosts
        )

    return ",".join(word for word in no_proxy.split(",") if word.strip() and not concerns(word))


def _in_network(host: str, word: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(word, strict=False)
    except ValueError:
        return False


def _source(section: RepoSection, repositories: Repositories) -> Source:
    name, variables = section.id, repositories.variables

    def words(option: str) -> list[str]:
        text = expand(section.get(option), variables)
        return [word for word in SEPARATORS.split(text) if word.strip(", \t\n")]

    baseurls = words("baseurl")
    lists = [(option, word) for option in _LIST_OPTIONS for word in words(option)[:1]]
    for url in (*baseurls, *(url for _, url in lists)):
        try:
            _end(url)
        except ValueError as error:
            raise ConfigError(f"repository {name!r}: {printable(url)} is not a URL") from error
    # What stands for something else leads nowhere, from here or from there (RFC 6761, 6.4).
    baseurls = [url for url in baseurls if not _end(url)[0].endswith(".invalid")]
    schemes = {_scheme(url) for url in (*baseurls, *(url for _, url in lists))}
    own = expand(section.get("proxy"), variables)
    chroots = any(repositories.environment.get(f"{one}_proxy") for one in schemes)
    return Source(
        id=name,
        baseurls=tuple(baseurls),
        lists=tuple(lists),
        keys=tuple(word for word in words("gpgkey") if _scheme(word) in DEFAULT_PORTS),
        has_proxy=own not in ("", "_none_") or (not own and chroots),
        verifies=section.is_set("sslverify", default=True),
        find_proxy=proxy_rule(section, variables, repositories.environ),
    )


def plain_access(source: Source) -> Access:
    """The same repository for this machine's own requests, without secrets."""
    return Access(
        id=source.id,
        name="plain",
        baseurls=tuple(url for url in source.baseurls if not is_file(url)),
        lists=tuple(pair for pair in source.lists if not is_file(pair[1])),
        certificates=Certificates(verifies=source.verifies),
        find_proxy=source.find_proxy,
    )


def _scheme(url: str) -> str:
    return url.partition("://")[0].lower() if "://" in url else ""


def is_file(url: str) -> bool:
    """Whether a URL of a dnf.conf is a path of this machine."""
    return url.startswith("/") or url.lower().startswith("file:")


def _is_mirror(url: str) -> bool:
    return "$" not in url and allow_url(url) is not None


def _is_tree(url: str) -> bool:
    """Whether it is a directory of this machine, and not all of it."""
    is_plain = "$" not in url and is_file(url)
    return is_plain and file_path(url) != Path("/")


def _end(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return plain_host(parts.hostname or ""), parts.port or DEFAULT_PORTS.get(parts.scheme, 0)


def _is_own(url: str) -> bool:
    """Whether only this machine can mean the URL's host: loopback and link-local ones."""
    host, _ = _end(url)
    if host == "localhost" or host.endswith((".localhost", ".localdomain")):
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_link_local or address.is_unspecified


def file_path(url: str) -> Path:
    """The absolute path of a file URL, as dnf reads it: percent escapes decoded."""
    path = url if url.startswith("/") else urlsplit(url).path
    return Path(os.path.normpath("/" + unquote(path).lstrip("/")))


def _file_url(word: str) -> str:
    """What stands for a file URL on the node; empty if it is none."""
    if not is_file(word):
        return ""
    return f"http://{FILES_HOST}{quote(str(file_path(word)))}/"


def _list_url(repository: str, option: str) -> str:
    return f"http://{LISTS_HOST}/{quote(repository, safe='')}/{option}"
