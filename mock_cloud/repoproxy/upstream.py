# SPDX-License-Identifier: GPL-2.0-or-later
"""Connections from this machine to the servers of repositories, through proxies too."""

from __future__ import annotations

import functools
import http.client
import ipaddress
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from mock_cloud.network import DEFAULT_PORTS, Certificates, Proxy, tls_context
from mock_cloud.repoproxy.access import Scope
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.dial import connect_first
from mock_cloud.wire.terminal_text import printable

if TYPE_CHECKING:
    import ssl

_CONNECT_S: Final = 15.0
_REASON_MAX: Final = 300
READ_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class UpstreamServer:
    """A host and port, and how it is reached: TLS with `certificates`, or plain without."""

    host: str
    port: int
    scope: Scope = Scope.ANY
    proxy: Proxy | None = None
    certificates: Certificates | None = None

    @property
    def is_asked_of_proxy(self) -> bool:
        """Whether requests name a whole URL, for a proxy that fetches it."""
        return self.proxy is not None and self.certificates is None


class Dialer:
    """Makes connections and remembers those that are open, so that `close` ends all at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._closed = False

    def dial(self, server: UpstreamServer, *, through: bool = True) -> socket.socket:
        """A connection, with TLS if the server has it. OSError, ConfigError say what failed.

        Where a proxy would fetch (`UpstreamServer.is_asked_of_proxy`) it is the proxy's, unless
        `through`. A proxy may know names that this machine does not; what this one knows of them
        must be in the scope.
        """
        if server.proxy is None:
            sock = self._connect(server.host, server.port, server.scope)
        else:
            _check_scope(server)
            sock = self._dial_proxy(server.proxy)
            if through or not server.is_asked_of_proxy:
                with self._dropped_if_bad(sock):
                    _ask_for_tunnel(sock, server, server.proxy)
        if server.certificates is not None:
            sock = self._secure(sock, server.host, server.certificates)
        return sock

    def drop(self, sock: socket.socket) -> None:
        """Close one connection. Idempotent."""
        with self._lock:
            self._open.discard(sock)
        sock.close()

    def close(self) -> None:
        """End all connections, now and later. Idempotent."""
        with self._lock:
            self._closed = True
            left = tuple(self._open)
        for sock in left:  # whoever uses it wakes up and drops it
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _connect(self, host: str, port: int, scope: Scope) -> socket.socket:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        fit = [one for one in found if is_in(scope, str(one[4][0]))]
        if not fit:
            raise OSError(f"{host} has no {scope.value} address")
        sock = connect_first(fit, _CONNECT_S, made=self._keep, drop=self.drop)
        with self._dropped_if_bad(sock):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(READ_S)
        return sock

    def _dial_proxy(self, proxy: Proxy) -> socket.socket:
        try:
            sock = self._connect(proxy.host, proxy.port, Scope.ANY)
            if proxy.scheme == "https":
                sock = self._secure(sock, proxy.host, proxy.certificates)
        except OSError as error:
            raise OSError(f"the proxy {proxy}: {reason_of(error)}") from error
        return sock

    def _secure(self, sock: socket.socket, host: str, certificates: Certificates) -> ssl.SSLSocket:
        """The connection with TLS on it, instead of the one without."""
        with self._dropped_if_bad(sock):
            context = _context(certificates)
            secured = context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
        with self._dropped_if_bad(secured):
            self.drop(sock)  # its descriptor is the other's now
            self._keep(secured)
            secured.do_handshake()
        return secured

    @contextmanager
    def _dropped_if_bad(self, sock: socket.socket) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.drop(sock)
            raise

    def _keep(self, sock: socket.socket) -> None:
        with self._lock:
            if self._closed:
                raise OSError("the tunnel is closed")
            self._open.add(sock)


def is_in(scope: Scope, address: str) -> bool:
    """Whether an IP address is in the scope."""
    if scope is Scope.ANY:
        return True
    return is_public(address) if scope is Scope.PUBLIC else is_elsewhere(address)


def is_public(address: str) -> bool:
    """Whether an IP address is one of the internet's (IANA's registries of special ones)."""
    found = _parse(address)
    return found is not None and found.is_global and not found.is_multicast


def is_elsewhere(address: str) -> bool:
    """Whether an IP address can be another machine's that is no neighbour by accident."""
    found = _parse(address)
    return found is not None and not (
        found.is_loopback or found.is_link_local or found.is_unspecified or found.is_multicast
    )


def is_public_name(host: str) -> bool:
    """Whether a host has an address of the internet, or one that is not known here."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return True
    return any(is_public(str(address[0])) for *_, address in found)


def scope_beyond(host: str) -> Scope:
    """Where the servers may be that a list of this host names: none is nearer than the host."""
    if is_public_name(host):
        return Scope.PUBLIC
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return Scope.NETWORK if any(is_elsewhere(str(one[4][0])) for one in found) else Scope.ANY


def reason_of(error: Exception) -> str:
    """What to say of a connection's or a request's failure, which may be a server's own words."""
    message = getattr(error, "verify_message", None)  # OpenSSL's, of the server's certificate
    if message:
        return f"its certificate is not accepted: {message}"
    words = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
    return printable(str(words).strip())[:_REASON_MAX]


class Upstreams:
    """The servers that one client talks to; the connection to the last one is used again."""

    def __init__(self, dialer: Dialer) -> None:
        self._dialer = dialer
        self._server: UpstreamServer | None = None
        self._connection: http.client.HTTPConnection | None = None
        self._sock: socket.socket | None = None
        self._answer: http.client.HTTPResponse | None = None

    def __enter__(self) -> Upstreams:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(
        self, server: UpstreamServer, method: str, target: str, headers: Mapping[str, str]
    ) -> http.client.HTTPResponse:
        """An answer whose body is still to be read. OSError, http.client.HTTPException."""
        if server.is_asked_of_proxy:
            target = f"http://{_authority(server)}{target}"
        if self._server == server and self._connection is not None and self._is_idle():
            try:
                return self._ask(self._connection, method, target, headers)
            except (OSError, http.client.HTTPException):
                pass  # it was idle for too long: once more, on a new one
        return self._ask(self._connect(server), method, target, headers)

    def _is_idle(self) -> bool:
        """Whether the last answer was read to its end, and the connection outlived it."""
        answer = self._answer
        if answer is not None and answer.length == 0:
            answer.close()  # `read1` leaves it open then
        is_read = answer is None or answer.isclosed()
        return is_read and self._connection is not None and self._connection.sock is not None

    def close(self) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.close()
        connection, self._connection = self._connection, None
        sock, self._sock = self._sock, None
        if connection is not None:
            connection.close()
        if sock is not None:
            self._dialer.drop(sock)

    def _connect(self, server: UpstreamServer) -> http.client.HTTPConnection:
        self.close()
        connection = http.client.HTTPConnection(server.host, server.port)
        # What Host says without the port.
        connection.default_port = 80 if server.certificates is None else 443
        connection.auto_open = 0
        connection.sock = self._sock = self._dialer.dial(server, through=False)
        self._connection = connection
        self._server = server
        return connection

    def _ask(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        target: str,
        headers: Mapping[str, str],
    ) -> http.client.HTTPResponse:
        connection.putrequest(method, target, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        if self._server is not None and self._server.is_asked_of_proxy:
            for name, value in _proxy_headers(self._server.proxy).items():
                connection.putheader(name, value)
        connection.endheaders()
        self._answer = connection.getresponse()
        return self._answer


@functools.lru_cache(maxsize=64)
def _context(certificates: Certificates) -> ssl.SSLContext:
    return tls_context(certificates)


def _parse(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def _check_scope(server: UpstreamServer) -> None:
    try:
        found = socket.getaddrinfo(server.host, None, type=socket.SOCK_STREAM)
    except OSError:
        return
    if not any(is_in(server.scope, str(address[0])) for *_, address in found):
        raise OSError(f"{server.host} has no {server.scope.value} address")


def _authority(server: UpstreamServer) -> str:
    host = f"[{server.host}]" if ":" in server.host else server.host
    default = DEFAULT_PORTS["http" if server.certificates is None else "https"]
    return host if server.port == default else f"{host}:{server.port}"


def _proxy_headers(proxy: Proxy | None) -> dict[str, str]:
    return {"Proxy-Authorization": proxy.login.header} if proxy and proxy.login else {}


def _ask_for_tunnel(sock: socket.socket, server: UpstreamServer, proxy: Proxy) -> None:
    """CONNECT (RFC 9110, 9.3.6): the server speaks after us, so nothing is read ahead of it."""
    host = f"[{server.host}]" if ":" in server.host else server.host
    lines = [f"CONNECT {host}:{server.port} HTTP/1.1", f"Host: {host}:{server.port}"]
    lines += [f"{name}: {value}" for name, value in _proxy_headers(proxy).items()]
    sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("ascii"))
    answer = http.client.HTTPResponse(sock, method="CONNECT")
    try:
        answer.begin()
    except http.client.HTTPException as error:
        raise OSError(f"the proxy {proxy} answers no HTTP") from error
    finally:
        answer.close()
    if answer.status != 200:
        raise OSError(proxy_problem(proxy, answer.status, server.host))


def proxy_problem(proxy: Proxy, status: int, host: str) -> str:
    """What to say where a proxy answers for itself."""
    if status == 407:
        return (
            f"the proxy {proxy} refuses the name and password (407)"
            if proxy.login
            else f"the proxy {proxy} asks for a name and password (407)"
        )
    return f"the proxy {proxy} does not connect to {host} (status {status})"
