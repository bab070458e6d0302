# SPDX-License-Identifier: GPL-2.0-or-later
"""How this machine reaches a repository that it fetches for nodes, secrets included."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from enum import Enum
from typing import Final

from mock_cloud.network import Certificates, Login, Proxy
from mock_cloud.wire.dataclass import dataclass

REPOSITORIES_HOST: Final = "repos.mock-cloud.invalid"
"""Each repository is a host below it (RFC 6761, 6.4)."""
KEYS: Final = "mock-cloud-keys"
"""The directory on it with the repository's keys that are URLs, each called by its number."""


class Scope(Enum):
    """Which addresses a server may have: any, none of this machine's own, the internet's."""

    ANY = "any"
    NETWORK = "network"
    PUBLIC = "public"


@dataclass(frozen=True, slots=True)
class Access:
    """A repository as this machine reaches it. URLs have no names and passwords in them.

    `name` is a DNS label. `lists` are (option, URL) of mirror lists. `logins` are by the URLs that
    had one in them, `login` is for all. `find_proxy` says by which proxy a URL is reached.
    """

    id: str
    name: str
    baseurls: tuple[str, ...]
    lists: tuple[tuple[str, str], ...] = ()
    keys: tuple[str, ...] = ()
    login: Login | None = None
    logins: Mapping[str, Login] = field(default_factory=dict)
    certificates: Certificates = field(default_factory=Certificates)
    find_proxy: Callable[[str], Proxy | None] = lambda _url: None

    @property
    def host(self) -> str:
        """What a node calls it."""
        return f"{self.name}.{REPOSITORIES_HOST}"

    @property
    def identity(self) -> str:
        """What makes it the same repository for a cache: its URLs and who asks."""
        user = self.login.user if self.login else ""
        users = sorted(f"{url} {login.user}" for url, login in self.logins.items())
        return "\n".join((*self.baseurls, *(url for _, url in self.lists), user, *users,
                          str(self.certificates.client or "")))  # fmt: skip

    def origin(self, url: str) -> Origin:
        """Its own server that `url` names."""
        return Origin(url, self.login or self.logins.get(url), trusted=True)


@dataclass(frozen=True, slots=True)
class Origin:
    """A place of a repository. `trusted`: it may see who asks, by `login` or certificate."""

    url: str
    login: Login | None = None
    trusted: bool = False
    scope: Scope = Scope.ANY
