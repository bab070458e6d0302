# SPDX-License-Identifier: GPL-2.0-or-later
"""Requests to a repository's servers with its secrets, which go to no other server."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final
from urllib.parse import urljoin, urlsplit

from mock_cloud.errors import MockCloudError
from mock_cloud.network import DEFAULT_PORTS, Certificates, is_host, split_login
from mock_cloud.repoproxy.access import Access, Origin, Scope
from mock_cloud.repoproxy.metadata import Unfetched
from mock_cloud.repoproxy.upstream import (
    Dialer,
    Upstreams,
    UpstreamServer,
    is_public_name,
    proxy_problem,
    reason_of,
)

_REDIRECTS_MAX: Final = 6  # librepo's
_REDIRECTS: Final = (301, 302, 303, 307, 308)
# Alerts of TLS that are about the client's certificate (RFC 8446, 6.2), as OpenSSL spells them.
_ALERTS: Final = {
    "CERTIFICATE_REQUIRED": "asks for a client certificate",
    "CERTIFICATE_EXPIRED": "says that the client certificate has expired",
    "CERTIFICATE_REVOKED": "says that the client certificate was revoked",
    "BAD_CERTIFICATE": "refuses the client certificate",
    "CERTIFICATE_UNKNOWN": "refuses the client certificate",
    "UNSUPPORTED_CERTIFICATE": "refuses the client certificate",
    "UNKNOWN_CA": "does not know who issued the client certificate",
    "HANDSHAKE_FAILURE": "refuses the connection, perhaps since it wants a client certificate",
}


def ask_origin(
    upstreams: Upstreams, access: Access, origin: Origin, url: str
) -> http.client.HTTPResponse:
    """A server's answer of status 200 to GET; redirects are followed, to its `url`. Unfetched.

    Secrets go to the origin's scheme, host and port only. Where it is of the internet, so is what
    it redirects to; nobody is redirected to this machine itself, nor from TLS to none.
    """
    try:
        home, scope = end_of(origin.url), origin.scope
        end_of(url)
    except ValueError as error:
        raise Unfetched("one of its URLs is none") from error
    for _ in range(_REDIRECTS_MAX + 1):
        is_home = end_of(url) == home
        headers = {"User-Agent": "mock-cloud"}
        if is_home and origin.trusted and origin.login is not None:
            headers["Authorization"] = origin.login.header
        answer = _ask_once(upstreams, access, url, scope, headers, shown=is_home and origin.trusted)
        if answer.status not in _REDIRECTS:
            answer.url = url
            return _checked(
                answer, upstreams, access, url, asked=bool(headers.get("Authorization"))
            )
        upstreams.close()
        url, target = _redirected(url, answer.getheader("location", ""))
        if target != home[1] and scope is Scope.ANY:
            scope = Scope.PUBLIC if is_public_name(home[1]) else Scope.NETWORK
    raise Unfetched(f"{home[1]} redirects too often")


def fetch(access: Access, url: str, max_bytes: int) -> tuple[bytes, str]:
    """What one of its own servers has at `url`, and where it was in the end. Unfetched.

    At most `max_bytes` and one more.
    """
    dialer = Dialer()
    with contextlib.closing(dialer), Upstreams(dialer) as upstreams:
        answer = ask_origin(upstreams, access, access.origin(url), url)
        try:
            return answer.read(max_bytes + 1), answer.url
        except (OSError, http.client.HTTPException) as error:
            raise Unfetched(f"{end_of(url)[1]} broke off: {reason_of(error)}") from error


def end_of(url: str) -> tuple[str, str, int]:
    """A URL's scheme, host and port. ValueError, also for a host that is not a name or address."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    if host and not is_host(host):
        raise ValueError("no host")
    return parts.scheme, host, parts.port or DEFAULT_PORTS.get(parts.scheme, 0)


def _redirected(url: str, location: str) -> tuple[str, str]:
    """Where a redirect leads, and the host. Unfetched for what is not followed."""
    here = end_of(url)
    try:
        found = split_login(urljoin(url, location))[0]
        scheme, host, _ = end_of(found)
    except ValueError:
        found = scheme = host = ""
    if scheme not in DEFAULT_PORTS or not host or (here[0] == "https" and scheme == "http"):
        raise Unfetched(f"{here[1]} redirects to where nobody follows: {scheme}://{host}")
    return found, host


def _ask_once(
    upstreams: Upstreams, access: Access, url: str, scope: Scope, headers: Mapping[str, str], *,
    shown: bool,
) -> http.client.HTTPResponse:  # fmt: skip
    scheme, host, port = end_of(url)
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    certificates = access.certificates if shown else access.certificates.without_client()
    try:
        proxy = access.find_proxy(url)
        server = UpstreamServer(
            host, port, scope, proxy, certificates if scheme == "https" else None
        )
        answer = upstreams.ask(server, "GET", target, headers)
    except (OSError, http.client.HTTPException, ValueError) as error:
        upstreams.close()
        raise Unfetched(f"{host}{_words(error, certificates)}") from error
    except MockCloudError as error:  # of a certificate or an authority
        raise Unfetched(error.message) from error
    if proxy is not None and server.is_asked_of_proxy and answer.status == 407:
        upstreams.close()
        raise Unfetched(proxy_problem(proxy, 407, host))
    return answer


def _checked(
    answer: http.client.HTTPResponse, upstreams: Upstreams, access: Access, url: str, *, asked: bool
) -> http.client.HTTPResponse:
    if answer.status == HTTPStatus.OK:
        return answer
    upstreams.close()
    host, status = end_of(url)[1], answer.status
    if status == HTTPStatus.UNAUTHORIZED:
        words = "refuses the name and password" if asked else "asks for a name and password"
    elif status == HTTPStatus.FORBIDDEN:
        words = "forbids it" + (_expiry(access.certificates) or _whose(access.certificates, asked))
    else:
        words = "does not have it" if status in (404, 410) else "fails"
    passed = status if status in (401, 403, 404, 410) else HTTPStatus.BAD_GATEWAY
    raise Unfetched(f"{host} {words} ({status})", passed)


def _whose(certificates: Certificates, asked: bool) -> str:
    if certificates.client is not None:
        return f" to whoever has the client certificate {certificates.client}"
    return " to this user" if asked else ""


def _words(error: Exception, certificates: Certificates) -> str:
    reason = str(getattr(error, "reason", "") or "")
    for alert, words in _ALERTS.items():
        if "ALERT" in reason and reason.endswith(alert):
            return f" {words}{_expiry(certificates)}"
    if "EOF" in str(error) or isinstance(
        error, (ConnectionResetError, http.client.RemoteDisconnected)
    ):
        return f" broke off the connection{_expiry(certificates)}"
    return f": {reason_of(error) or type(error).__name__}"


def _expiry(certificates: Certificates) -> str:
    words = validity_problem(certificates)
    return f": {words}" if words else ""


def validity_problem(certificates: Certificates) -> str:
    """Why the client's certificate is not valid now; empty if it is, or cannot be read."""
    from datetime import datetime, timezone

    from cryptography import x509

    if certificates.client is None:
        return ""
    try:
        found = x509.load_pem_x509_certificate(certificates.client.read_bytes())
    except (OSError, ValueError):
        return ""
    now = datetime.now(timezone.utc)
    if found.not_valid_after_utc < now:
        return f"{certificates.client} expired on {found.not_valid_after_utc:%Y-%m-%d}"
    if found.not_valid_before_utc > now:
        return f"{certificates.client} is valid from {found.not_valid_before_utc:%Y-%m-%d} on"
    return ""
