# SPDX-License-Identifier: GPL-2.0-or-later
"""How this machine reaches servers: proxies, authorities and certificates, names and passwords.

One rule for all of it, which docs/networks.md has for users.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from mock_cloud.errors import ConfigError
from mock_cloud.model import Secret
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.files import replace_file
from mock_cloud.wire.layout import CA_BUNDLES

if TYPE_CHECKING:
    import http.client
    import ssl
    import urllib.request

BUNDLES: Final = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE")
"""Variables of the environment that name files with authorities."""
_HOST: Final = re.compile(r"[A-Za-z0-9._-]{1,253}|[0-9A-Fa-f:.]{2,45}(?:%[A-Za-z0-9._-]{1,32})?")
_PROXY_SCHEMES: Final = ("http", "https")
_PROXY_PORT: Final = 1080  # curl's, and so dnf's, where the URL has none
DEFAULT_PORTS: Final[Mapping[str, int]] = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Login:
    """A name and a password for HTTP's Basic scheme (RFC 7617)."""

    user: str
    password: Secret

    @property
    def header(self) -> str:
        """The value of Authorization or Proxy-Authorization."""
        pair = f"{self.user}:".encode() + self.password.reveal()
        return "Basic " + base64.b64encode(pair).decode()


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files for TLS: `authorities` instead of this machine's, `client` with `key` to show."""

    authorities: Path | None = None
    client: Path | None = None
    key: Path | None = None
    verifies: bool = True

    def without_client(self) -> Certificates:
        """The same for a server that is not to see who this is."""
        return replace(self, client=None, key=None)


_USUAL: Final = Certificates()


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy; `scheme` is how it is spoken to itself."""

    scheme: str
    host: str
    port: int
    login: Login | None = None
    certificates: Certificates = _USUAL

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def is_host(text: str) -> bool:
    """Whether it can be a host's name or address, and so nothing else in a request."""
    return _HOST.fullmatch(text) is not None


def split_login(url: str) -> tuple[str, Login | None]:
    """`url` without the name and password before its host, and these, decoded. ValueError."""
    parts = urlsplit(url)
    userinfo, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, None
    user, _, password = userinfo.partition(":")
    login = Login(unquote(user), Secret(unquote(password).encode()))
    return parts._replace(netloc=host).geturl(), login


def parse_proxy(text: str, what: str) -> Proxy:
    """A proxy's URL, or its host and port alone. ConfigError that begins with `what`."""
    try:
        url, login = split_login(text if "://" in text else f"http://{text}")
        parts = urlsplit(url)
        port = parts.port or _PROXY_PORT
    except ValueError as error:
        raise ConfigError(f"{what} is not a proxy's URL") from error
    if parts.scheme not in _PROXY_SCHEMES or not parts.hostname:
        raise ConfigError(
            f"{what} is not a proxy that can be used from here: {parts.scheme}://",
            hint="http:// and https:// proxies can be",
        )
    return Proxy(parts.scheme, parts.hostname, port, login)


def find_proxy(url: str, environ: Mapping[str, str] = os.environ) -> Proxy | None:
    """The proxy that the environment has for `url`. ConfigError for one that is none."""
    parts = urlsplit(url)
    port = parts.port or DEFAULT_PORTS.get(parts.scheme, 0)
    if is_exempt(parts.hostname or "", port, environ):
        return None
    for name in (f"{parts.scheme}_proxy", "all_proxy"):
        # In a CGI program HTTP_PROXY is a header of whoever asks (CVE-2016-1000110).
        upper = "" if name == "http_proxy" and "REQUEST_METHOD" in environ else name.upper()
        for variable in (name, upper):
            if environ.get(variable):
                return parse_proxy(environ[variable], variable)
            if variable in environ:  # empty: none
                return None
    return None


def is_exempt(host: str, port: int, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether no_proxy says that no proxy is used for this host and port."""
    words = environ.get("no_proxy", environ.get("NO_PROXY", ""))
    return any(_names(word, host.lower().rstrip("."), port) for word in re.split(r"[\s,]+", words))


def _names(word: str, host: str, port: int) -> bool:
    """Whether a word of no_proxy means the host: a name or what ends so, an address or network."""
    if word == "*":
        return True
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(word, strict=False)
    except ValueError:
        pass
    found = re.fullmatch(r"(?:\*?\.)?(\[[^\]]*\]|[^:\[\]]+)\.?(?::(\d+))?", word.lower())
    if found is None or (found[2] and int(found[2]) != port):
        return False
    name = found[1].strip("[].")
    return host == name or host.endswith(f".{name}")


def tls_context(
    certificates: Certificates = _USUAL, environ: Mapping[str, str] = os.environ
) -> ssl.SSLContext:
    """For connections to servers. ConfigError names the file that cannot be used.

    Without `authorities` those of this machine count, and those of each file that one of
    `BUNDLES` names.
    """
    import ssl

    context = ssl.create_default_context()
    if certificates.authorities is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        _load(context, certificates.authorities, "authorities")
    else:
        for path, variable in _named(environ).items():
            _load(context, path, variable)
    if not certificates.verifies:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certificates.client is not None:
        try:
            context.load_cert_chain(certificates.client, certificates.key, password=_no_password)
        except (OSError, ValueError) as error:
            where = certificates.key or certificates.client
            raise ConfigError(
                f"the client certificate {certificates.client} with the key {where} cannot be"
                f" used: {_reason(error)}",
            ) from error
    return context


def _named(environ: Mapping[str, str]) -> dict[Path, str]:
    """Files with authorities, each once, and the variable that names it."""
    # It takes 30 ms to read one, and who sets one variable sets them all.
    return {Path(environ[one]): one for one in reversed(BUNDLES) if environ.get(one)}


def authorities_file(directory: Path, environ: Mapping[str, str] = os.environ) -> Path | None:
    """One file with all that `tls_context` trusts, for libraries that take one; None: their own.

    It is made in `directory`, called by its contents, if it is not the system's alone. ConfigError,
    OSError.
    """
    system = next((Path(path) for path in CA_BUNDLES if Path(path).is_file()), None)
    named = _named(environ)
    if not named:
        return system
    tls_context(environ=environ)  # says what is wrong with one
    paths = [path for path in (system, *named) if path is not None and path.is_file()]
    parts = [path.read_bytes() for path in dict.fromkeys(paths)]
    data = b"\n".join(parts)
    path = directory / f"authorities-{hashlib.sha256(data).hexdigest()[:32]}.pem"
    if not path.exists():
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(path, data)
    return path


def build_opener(environ: Mapping[str, str] = os.environ) -> urllib.request.OpenerDirector:
    """urllib's, by this module's rules. Requests raise what urllib raises, and ConfigError."""
    import http.client
    import urllib.request

    class Proxied(urllib.request.BaseHandler):
        handler_order = 100  # before those that connect; ask for the way of each redirect too

        def http_open(self, request: urllib.request.Request) -> None:
            proxy = find_proxy(request.full_url, environ)
            if proxy is not None:
                request.set_proxy(str(proxy), "http")
                if proxy.login is not None:
                    request.add_unredirected_header("Proxy-Authorization", proxy.login.header)

        https_open = http_open

    class Secured(urllib.request.HTTPSHandler):
        def __init__(self) -> None:
            urllib.request.AbstractHTTPHandler.__init__(self)  # no context yet

        def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
            context = tls_context(environ=environ)
            return self.do_open(http.client.HTTPSConnection, request, context=context)

    return urllib.request.build_opener(urllib.request.ProxyHandler({}), Proxied(), Secured())


def _no_password() -> str:
    raise ValueError("the key has a password, which nobody is asked for here")


def _load(context: ssl.SSLContext, path: Path, what: str) -> None:
    try:
        if path.is_dir():
            context.load_verify_locations(capath=path)
        else:
            context.load_verify_locations(cafile=path)
    except OSError as error:
        raise ConfigError(
            f"{what}: {path} has no authorities that can be used: {_reason(error)}"
        ) from error


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None)  # OpenSSL's word for it
    return str(reason or getattr(error, "strerror", None) or error)
