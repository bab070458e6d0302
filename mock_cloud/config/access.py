# SPDX-License-Identifier: GPL-2.0-or-later
"""Secrets of a dnf.conf: taken out of what goes to nodes, and kept for this machine's own requests.

A repository with a password, a client certificate, an authority of its own or a proxy that asks for
a password is fetched by this machine (`repoproxy.repository`): in the text for nodes stands a host
that only this machine's tunnel knows. The text is the same in each build.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from mock_cloud.errors import ConfigError, UnsupportedByEngine
from mock_cloud.model import Secret
from mock_cloud.network import (
    DEFAULT_PORTS,
    Certificates,
    Login,
    Proxy,
    find_proxy,
    is_exempt,
    is_host,
    parse_proxy,
    split_login,
    tls_context,
)
from mock_cloud.repoproxy.access import KEYS, Access
from mock_cloud.settings import RepoAccess
from mock_cloud.wire.dnf_conf import SEPARATORS, RepoSection, expand, rewrite_options
from mock_cloud.wire.job_request import TUNNEL_PROXY
from mock_cloud.wire.terminal_text import printable

URL_OPTIONS: Final = ("baseurl", "mirrorlist", "metalink")
_LIST_OPTIONS: Final = URL_OPTIONS[1:]
_OWN_OPTIONS: Final = (
    "sslcacert", "sslclientcert", "sslclientkey", "username", "password", "proxy_username",
    "proxy_password", "proxy_sslcacert", "proxy_sslclientcert", "proxy_sslclientkey",
)  # fmt: skip
"""Options that name secrets or files of this machine: they stand in no text for a node."""
_WAY_OPTIONS: Final = (*URL_OPTIONS, "proxy", "proxy_auth_method", "proxy_sslverify", "sslverify")
_SECRET_OPTIONS: Final = ("username", "password", "proxy_username", "proxy_password")
_TELLING: Final = 10
"""From this length on a word in a text is a password and no accident, as "centos" may be."""
_COMMENT: Final = re.compile(
    rf"^[#;][ \t]*(?:(?:{'|'.join(_OWN_OPTIONS)})[ \t]*=|.*://[^/\s]*@).*\n?", re.MULTILINE
)
_LOGIN: Final = re.compile(r"(://)[^/\s@,]*@")
_VARIABLE: Final = re.compile(r"\$\{?(\w+)")


class Accesses:
    """The repositories that this machine fetches; gives each a name of its own.

    `environ` has the proxies for what a dnf.conf has none for. `variables` are dnf's.
    """

    def __init__(self, variables: Mapping[str, str], environ: Mapping[str, str]) -> None:
        self.found: dict[tuple[str, ...], Access] = {}
        self.secret_variables: set[str] = set()
        self.environ = environ
        self._variables = variables

    def take(self, text: str, enabled: Iterable[RepoSection]) -> str:
        """`text` for nodes. UnsupportedByEngine, ConfigError for what cannot be done here."""
        fetched = {one.section: self._add(one) for one in enabled if needs_this_machine(one)}

        def change(section: str, option: str, value: str) -> str | None:
            access = fetched.get(section)
            if option in _OWN_OPTIONS:
                if option in _SECRET_OPTIONS:
                    self.secret_variables.update(_VARIABLE.findall(value))
                return None
            if access is None or not option:
                head = "" if access is None else _way(access)
                return f"{value.rstrip()}\n{head}" if head else self._without_login(value)
            if option in _WAY_OPTIONS:
                self._without_login(value)
                return None
            return _keys(access, value, self._variables) if option == "gpgkey" else value

        return _COMMENT.sub("", rewrite_options(text, change))

    def _without_login(self, value: str) -> str:
        for found in _LOGIN.finditer(value):
            self.secret_variables.update(_VARIABLE.findall(found[0]))
        return without_login(value)

    def _add(self, section: RepoSection) -> Access:
        facts = tuple(
            f"{option}={section.get(option)}" for option in (*_OWN_OPTIONS, *_WAY_OPTIONS)
        )
        key = (section.id, *facts)
        if key not in self.found:
            access = read_access(section, self._variables, self.environ)
            self.found[key] = replace(access, name=self._name(section.id))
        return self.found[key]

    def _name(self, repository: str) -> str:
        base = re.sub(r"[^a-z0-9]+", "-", repository.lower()).strip("-")[:50] or "repository"
        taken = {access.name for access in self.found.values()}
        names = (base if number == 0 else f"{base}-{number}" for number in range(len(taken) + 1))
        return next(name for name in names if name not in taken)


def without_login(text: str) -> str:
    """`text` without the names and passwords of URLs in it."""
    return _LOGIN.sub(r"\1", text)


def names_secrets(text: str) -> bool:
    """Whether a dnf.conf, well-formed or not, may have a password in it."""
    return "password" in text.lower() or _LOGIN.search(text) is not None


def without_logins(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` without what has a name and password in a URL."""
    texts = {name: str(value) for name, value in environment.items()}
    return {name: environment[name] for name, text in texts.items() if without_login(text) == text}


def needs_this_machine(section: RepoSection) -> bool:
    """Whether what the repository needs stays on this machine."""
    urls = (section.get(option) for option in (*URL_OPTIONS, "proxy"))
    has_own = any(section.get(option) for option in _OWN_OPTIONS)
    lists = [section.get(option).lower() for option in URL_OPTIONS]
    remote = any("://" in one and not one.startswith("file:") for one in lists)
    return any(_LOGIN.search(url) for url in urls) or (has_own and remote)


def read_access(
    section: RepoSection, variables: Mapping[str, str], environ: Mapping[str, str]
) -> Access:
    """How this machine reaches a repository, its name still to be chosen.

    UnsupportedByEngine for URLs that are neither http nor https; ConfigError.
    """

    def text(option: str) -> str:
        return expand(section.get(option), variables)

    def words(option: str) -> list[str]:
        return [word for word in SEPARATORS.split(text(option)) if word.strip(", \t\n")]

    logins: dict[str, Login] = {}

    def plain(url: str) -> str:
        try:
            found, login = split_login(url)
            parts = urlsplit(found)
            is_fit = parts.scheme in DEFAULT_PORTS and is_host(parts.hostname or "")
        except ValueError as error:
            raise ConfigError(f"repository {section.id!r} has a URL that is none") from error
        if not is_fit or "$" in found:
            raise UnsupportedByEngine(
                f"repository {section.id!r} cannot be fetched by this machine, which it needs:"
                f" {printable(found)}",
                hint="http and https URLs can be, without variables that nobody knows",
            )
        if login is not None:
            logins[found] = login
        return found

    lists = [(option, plain(word)) for option in _LIST_OPTIONS for word in words(option)[:1]]
    return Access(
        id=section.id,
        name="",
        baseurls=tuple(plain(word) for word in words("baseurl")),
        lists=tuple(lists),
        keys=tuple(plain(word) for word in words("gpgkey") if word.startswith(("http:", "https:"))),
        login=_login(text("username"), text("password")),
        logins=logins,
        certificates=_certificates(text, section, ""),
        find_proxy=proxy_rule(section, variables, environ),
    )


def proxy_rule(
    section: RepoSection, variables: Mapping[str, str], environ: Mapping[str, str]
) -> Callable[[str], Proxy | None]:
    """By which proxy this machine reaches a URL of the repository. ConfigError, now and then.

    As curl has it, which dnf uses: no_proxy counts for a dnf.conf's own proxy too.
    """

    def text(option: str) -> str:
        return expand(section.get(option), variables)

    if text("proxy").lower() == "_none_":
        return lambda _url: None
    if not text("proxy"):
        return lambda url: find_proxy(url, environ)
    proxy = parse_proxy(text("proxy"), f"repository {section.id!r}: its proxy")
    proxy = replace(
        proxy,
        login=_login(text("proxy_username"), text("proxy_password")) or proxy.login,
        certificates=_certificates(text, section, "proxy_"),
    )

    def find(url: str) -> Proxy | None:
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORTS.get(parts.scheme, 0)
        return None if is_exempt(parts.hostname or "", port, environ) else proxy

    return find


def check_access(access: Access, repo_access: RepoAccess) -> None:
    """Refuse what cannot work before anything is leased. UnsupportedByEngine, ConfigError."""
    from mock_cloud.repoproxy.fetch import validity_problem  # few commands have any of these

    if repo_access is RepoAccess.DIRECT:
        raise UnsupportedByEngine(
            f"repository {access.id!r} needs a password, certificate or proxy of this machine",
            hint='say repo_access = "auto" or "tunnel" in the [build] table of the remote, or'
            f" --disablerepo={access.id}",
        )
    proxies = [access.find_proxy(url) for url in (*access.baseurls, *(u for _, u in access.lists))]
    for certificates in (access.certificates, *(one.certificates for one in proxies if one)):
        problem = validity_problem(certificates)
        if problem:
            raise ConfigError(f"repository {access.id!r}: the client certificate {problem}")
        try:
            tls_context(certificates)
        except ConfigError as error:
            raise ConfigError(
                f"repository {access.id!r}: {error.message}", hint=error.hint
            ) from error


def secret_words(accesses: Iterable[Access]) -> frozenset[str]:
    """Passwords that must stand in nothing for a node."""
    found = set()
    for access in accesses:
        proxies = (
            access.find_proxy(url) for url in (*access.baseurls, *(u for _, u in access.lists))
        )
        logins = [access.login, *access.logins.values(), *(one.login for one in proxies if one)]
        found |= {one.password.reveal().decode() for one in logins if one is not None}
    return frozenset(found - {""})


def has_secret(value: object, words: Collection[str]) -> bool:
    """Whether one of `words` stands in `value`, a short one only if it is all of a text."""
    if isinstance(value, Mapping):
        return any(has_secret(one, words) for one in (*value.keys(), *value.values()))
    if isinstance(value, (list, tuple)):
        return any(has_secret(one, words) for one in value)
    text = str(value)
    return text in words or any(len(word) >= _TELLING and word in text for word in words)


def without_secret_variables(
    dnf_vars: Mapping[str, str], accesses: Accesses, texts: Iterable[str]
) -> dict[str, str]:
    """dnf's variables but those that stand in secrets and nowhere else."""
    used = {name for text in texts for name in _VARIABLE.findall(text)}
    hidden = accesses.secret_variables - used
    return {name: value for name, value in dnf_vars.items() if name not in hidden}


def _login(user: str, password: str) -> Login | None:
    return Login(user, Secret(password.encode())) if user else None


def _certificates(text: Callable[[str], str], section: RepoSection, prefix: str) -> Certificates:
    def path(option: str) -> Path | None:
        found = text(f"{prefix}{option}").removeprefix("file://")
        return Path(found) if found else None

    return Certificates(
        authorities=path("sslcacert"),
        client=path("sslclientcert"),
        key=path("sslclientkey"),
        verifies=section.is_set(f"{prefix}sslverify", default=True),
    )


def _way(access: Access) -> str:
    return f"baseurl=http://{access.host}/\nproxy={TUNNEL_PROXY}\n"


def _keys(access: Access, value: str, variables: Mapping[str, str]) -> str:
    def replaced(word: str) -> str:
        url = without_login(expand(word, variables))
        if url not in access.keys:
            return word
        return f"http://{access.host}/{KEYS}/{access.keys.index(url)}"

    return "".join(replaced(word) for word in SEPARATORS.split(value))
