# SPDX-License-Identifier: GPL-2.0-or-later
"""What libcloud's and openstacksdk's requests go by: this machine's authorities, proxies, families.

Neither library lets its users say so for all of its connections; each is told at one point that all
of them pass. The rules are docs/networks.md's.
"""

from __future__ import annotations

import functools
import os
import socket
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import urlsplit

from mock_cloud.errors import ConfigError
from mock_cloud.network import DEFAULT_PORTS, authorities_file, is_exempt
from mock_cloud.places import cache_home
from mock_cloud.wire.dial import connect_first

_CONNECT_S: Final = 30.0
"""Where the library says nothing."""


@functools.cache
def keep_own_rules() -> None:
    """Have requests made from now on go by them. ConfigError."""
    _trust_own_authorities()
    _exempt_from_proxies()
    _try_addresses_in_turn()


def _trust_own_authorities() -> None:
    """And not certifi's list."""
    import libcloud.security

    try:
        found = authorities_file(cache_home() / "mock-cloud")
    except OSError as error:
        raise ConfigError(f"no file can be made of authorities: {error}") from error
    if found is not None:
        libcloud.security.CA_CERTS_PATH = str(found)


def _exempt_from_proxies() -> None:
    """By no_proxy as it is read here: requests knows no network of IPv6 and no port of an address.

    Its get_environ_proxies and resolve_proxies, for sessions and their redirects, ask this.
    """
    from requests import utils

    def should_bypass(url: str, no_proxy: str | None) -> bool:
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORTS.get(parts.scheme, 0)
        environ = os.environ if no_proxy is None else {"no_proxy": no_proxy}
        return is_exempt(parts.hostname or "", port, environ)

    utils.should_bypass_proxies = should_bypass


def _try_addresses_in_turn() -> None:
    """urllib3 waits for each address as long as for all: a dead family costs a time limit."""
    from urllib3.util import connection

    def create_connection(
        address: tuple[str, int],
        timeout: Any = None,
        source_address: tuple[str, int] | None = None,
        socket_options: Iterable[tuple[Any, ...]] | None = None,
    ) -> socket.socket:
        limit_s = timeout if isinstance(timeout, (int, float)) else None

        def make_ready(sock: socket.socket) -> None:
            for option in socket_options or ():
                sock.setsockopt(*option)
            if source_address:
                sock.bind(source_address)

        host, port = address[0].strip("[]"), address[1]
        family = connection.allowed_gai_family()
        found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
        sock = connect_first(found, _CONNECT_S if limit_s is None else limit_s, made=make_ready)
        sock.settimeout(limit_s)
        return sock

    connection.create_connection = create_connection
