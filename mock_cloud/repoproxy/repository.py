# SPDX-License-Identifier: GPL-2.0-or-later
"""A repository that this machine fetches for a node, with secrets that the node never sees.

The node asks for what lies on a host of its own (`Access.host`), and gets what the repository's
metadata lists, with that very checksum; nothing else that the secrets open.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import IO, Final
from urllib.parse import urlsplit

from mock_cloud.network import DEFAULT_PORTS
from mock_cloud.repoproxy.access import KEYS, Access, Origin, Scope
from mock_cloud.repoproxy.allow import plain_path
from mock_cloud.repoproxy.cache import RepositoryCache
from mock_cloud.repoproxy.fetch import ask_origin, end_of
from mock_cloud.repoproxy.files import send_open
from mock_cloud.repoproxy.http1 import Client, ProxyRequest
from mock_cloud.repoproxy.metadata import (
    REPOMD,
    REPOMD_MAX_BYTES,
    ListedFile,
    Unfetched,
    parse_mirrors,
    parse_repomd,
    read_primary,
)
from mock_cloud.repoproxy.upstream import (
    Upstreams,
    UpstreamServer,
    is_public_name,
    reason_of,
    scope_beyond,
)

_MIRRORS_TRIED: Final = 5
_MIRRORS_MAX: Final = 1000
_LIST_MAX_BYTES: Final = 4 << 20
_KEY_MAX_BYTES: Final = 1 << 20
_FILE_MAX_BYTES: Final = 64 << 30
_BLOCK_BYTES: Final = 256 << 10
_HEADERS: Final = {"Content-Type": "application/octet-stream"}
_SIGNATURES: Final = (f"/{REPOMD}.asc", f"/{REPOMD}.key")


class ServedRepository:
    """One repository, while a tunnel is open. `cache` may be missing: then nothing is kept."""

    def __init__(self, access: Access, cache: RepositoryCache | None = None) -> None:
        self.access = access
        self._cache = cache
        self._lock = threading.RLock()
        self._origins: list[Origin] = []
        self._repomd_digests: frozenset[str] = frozenset()
        self._unread: dict[str, ListedFile] = {}
        """Primary metadata by its digest."""
        self._listed: dict[str, ListedFile] = {}
        self._is_read = False

    def answer(self, client: Client, request: ProxyRequest, upstreams: Upstreams) -> None:
        """Answer a request for what is on the repository's host.

        Unfetched; where its `cut` is set, part of an answer was sent.
        """
        path = plain_path(urlsplit(request.target).path) or ""
        if path == f"/{REPOMD}":
            _send_bytes(client, request, self._fetch_repomd(upstreams))
        elif path in _SIGNATURES:
            _send_bytes(client, request, self._fetch_beside(upstreams, path[1:], _KEY_MAX_BYTES))
        elif path.startswith(f"/{KEYS}/"):
            _send_bytes(client, request, self._fetch_key(upstreams, path.rpartition("/")[2]))
        else:
            listed = self.find(path, upstreams)
            if listed is None:
                raise Unfetched("its metadata does not list it", HTTPStatus.FORBIDDEN)
            self.send(client, request, listed, upstreams)

    def find(self, place: str, upstreams: Upstreams) -> ListedFile | None:
        """What the metadata has at a decoded path, or at the `place_of` a whole URL. Unfetched."""
        if not self._is_read:
            self._fetch_repomd(upstreams)
        if place not in self._listed:
            self._read_primaries(upstreams)
        return self._listed.get(place)

    def find_end(self, host: str, port: int, upstreams: Upstreams) -> UpstreamServer | None:
        """The server at which the metadata has files over TLS, which go unseen. Unfetched."""
        start = f"https://{host}:{port}/"
        self.find("", upstreams)
        if not any(place.startswith(start) for place in self._listed):
            return None
        return UpstreamServer(
            host, port, self._scope_of(host, upstreams), self.access.find_proxy(start)
        )

    def send(
        self, client: Client, request: ProxyRequest, listed: ListedFile, upstreams: Upstreams
    ) -> None:
        """Send a file that is listed, after it was seen to be the one. As `answer`.

        What is not the repository's own is sent when all of it was seen: who writes its metadata
        must not read other files by listing them with a wrong checksum.
        """
        descriptor = self._cache.find(listed) if self._cache else None
        if descriptor is None:
            is_whole = request.method == "GET" and "range" not in request.headers
            streams = is_whole and listed.is_below
            with self._draft() as draft:
                if self._download(draft, listed, upstreams, client if streams else None):
                    return
                descriptor = os.dup(draft.fileno())
        send_open(client, request, descriptor)

    # metadata

    def _fetch_repomd(self, upstreams: Upstreams) -> bytes:
        """It is asked for each time: what a repository has now counts, and who may see it."""
        data = self._fetch_beside(upstreams, REPOMD, REPOMD_MAX_BYTES)
        if self._repomd_digests and hashlib.sha256(data).hexdigest() not in self._repomd_digests:
            raise Unfetched("its repomd.xml is not the one that the metalink names")
        found = parse_repomd(data)
        with self._lock:
            self._is_read = True
            for kind, listed in found.items():
                self._add(listed)
                if kind == "primary":
                    self._unread.setdefault(listed.digest, listed)
        return data

    def _read_primaries(self, upstreams: Upstreams) -> None:
        with self._lock:
            for digest, primary in list(self._unread.items()):
                with self._opened(primary, upstreams) as stream:
                    for listed in read_primary(stream, primary.href):
                        self._add(listed)
                del self._unread[digest]

    def _add(self, listed: ListedFile) -> None:
        """Note where a node will ask_origin for it."""
        if not listed.is_below:
            places = [place_of(listed.url(base_of(url))) for url in self.access.baseurls or ("",)]
        else:
            places = []
        if not listed.is_elsewhere:
            url = listed.url(f"http://{self.access.host}/")
            places.append(plain_path(urlsplit(url).path) or "")
        self._listed.update((place, listed) for place in places if place)

    @contextmanager
    def _opened(self, listed: ListedFile, upstreams: Upstreams) -> Iterator[IO[bytes]]:
        descriptor = self._cache.find(listed) if self._cache else None
        if descriptor is not None:
            with os.fdopen(descriptor, "rb") as stream:
                yield stream
            return
        with self._draft() as draft:
            self._download(draft, listed, upstreams, None)
            draft.seek(0)
            yield draft

    # what is fetched

    def _known_origins(self, upstreams: Upstreams) -> list[Origin]:
        with self._lock:
            if not self._origins:
                self._origins = self._find_origins(upstreams)
            return self._origins[:_MIRRORS_TRIED]

    def _find_origins(self, upstreams: Upstreams) -> list[Origin]:
        access = self.access
        found = [access.origin(url) for url in access.baseurls]
        for option, url in access.lists if not found else ():
            own = access.origin(url)
            text = _read(ask_origin(upstreams, access, own, url), _LIST_MAX_BYTES, f"the {option}")
            mirrors, self._repomd_digests = parse_mirrors(option, text.decode("utf-8", "replace"))
            scope = scope_beyond(end_of(url)[1])
            for mirror in mirrors[:_MIRRORS_MAX]:
                with suppress(ValueError):
                    scheme, host, _ = end_of(mirror)
                    # Whoever could change the list on its way is not told the password.
                    trusted = url.startswith("https:") and scheme == "https"
                    if scheme in DEFAULT_PORTS and host:
                        found.append(Origin(mirror, own.login, trusted, scope))
        if not found:
            raise Unfetched("it names no server that can be used")
        return found

    def _open(
        self, upstreams: Upstreams, url_at: Callable[[str], str]
    ) -> tuple[http.client.HTTPResponse, Origin]:
        """The first answer of its servers. Unfetched with what the last one had to say."""
        problem = Unfetched("it has no server")
        for origin in self._known_origins(upstreams):
            url = url_at(base_of(origin.url))
            try:
                return ask_origin(upstreams, self.access, origin, url), origin
            except Unfetched as error:
                problem = error
                self._put_last(origin)
        raise problem

    def _put_last(self, origin: Origin) -> None:
        with self._lock:
            self._origins.remove(origin)
            self._origins.append(origin)

    def _open_listed(
        self, upstreams: Upstreams, listed: ListedFile
    ) -> tuple[http.client.HTTPResponse, Origin]:
        if not listed.is_elsewhere:
            return self._open(upstreams, listed.url)
        url = listed.url("")
        origin = Origin(url, scope=self._scope_of(end_of(url)[1], upstreams))
        return ask_origin(upstreams, self.access, origin, url), origin

    def _scope_of(self, host: str, upstreams: Upstreams) -> Scope:
        """Where a host may be that the metadata names: the internet's names none of a network."""
        homes = {end_of(origin.url)[1] for origin in self._known_origins(upstreams)}
        if host in homes:
            return Scope.ANY
        return Scope.PUBLIC if any(map(is_public_name, homes)) else Scope.NETWORK

    def _fetch_beside(self, upstreams: Upstreams, path: str, max_bytes: int) -> bytes:
        return _read(self._open(upstreams, lambda base: base + path)[0], max_bytes, path)

    def _fetch_key(self, upstreams: Upstreams, number: str) -> bytes:
        keys = self.access.keys
        if not number.isascii() or not number.isdecimal() or int(number) >= len(keys):
            raise Unfetched("it has no such key", HTTPStatus.FORBIDDEN)
        url = keys[int(number)]
        owns = [one for one in self._known_origins(upstreams) if end_of(one.url) == end_of(url)]
        login = self.access.logins.get(url) or (owns[0].login if owns else None)
        origin = Origin(url, login, trusted=bool(owns) or login is not None)
        return _read(ask_origin(upstreams, self.access, origin, url), _KEY_MAX_BYTES, "the key")

    @contextmanager
    def _draft(self) -> Iterator[IO[bytes]]:
        if self._cache is not None:
            with self._cache.draft() as draft:
                yield draft
        else:
            with tempfile.TemporaryFile() as draft:
                yield draft

    def _download(
        self, draft: IO[bytes], listed: ListedFile, upstreams: Upstreams, client: Client | None
    ) -> bool:
        """Fetch a file into `draft` and pass it on meanwhile. Whether the client has all of it.

        Its last block is held back until its checksum was seen to be right. Unfetched.
        """
        answer, origin = self._open_listed(upstreams, listed)
        passing = _Passing(client, answer.length if listed.size is None else listed.size)
        try:
            if answer.length not in (None, passing.size):
                raise Unfetched("it has another size than the metadata says")
            digest = hashlib.new(listed.kind)
            for data in _blocks(answer):
                digest.update(data)
                draft.write(data)
                passing.take(data)
            if digest.hexdigest() != listed.digest:
                raise Unfetched("it is not what the metadata says: another checksum")
        except Unfetched as error:
            upstreams.close()
            if not listed.is_elsewhere:
                self._put_last(origin)
            host = end_of(origin.url)[1]
            raise Unfetched(f"{host}: {error}", error.status, cut=passing.begun) from error
        draft.flush()
        if self._cache is not None:
            with suppress(OSError):
                self._cache.keep(draft, listed)
        return passing.end()


class _Passing:
    """Passes a file on to a client while it comes, all but its last block. `size` in bytes."""

    def __init__(self, client: Client | None, size: int | None) -> None:
        self.size = size
        self.begun = False
        self._client = None if size is None else client
        self._held = b""
        self._count = 0

    def take(self, data: bytes) -> None:
        self._count += len(data)
        if self._count > (_FILE_MAX_BYTES if self.size is None else self.size):
            raise Unfetched("it is larger than the metadata says")
        if self._client is not None:
            if not self.begun:
                self._client.start(HTTPStatus.OK, _HEADERS, self.size)
                self.begun = True
            self._client.send(self._held)
            self._held = data

    def end(self) -> bool:
        """Send the rest; whether the client has all of it now."""
        if self._client is not None and self.begun:
            self._client.send(self._held)
        return self.begun


def place_of(url: str) -> str:
    """What whole URLs are compared by; empty for one that is none, or can be read in two ways."""
    try:
        scheme, host, port = end_of(url)
        parts = urlsplit(url)
    except ValueError:
        return ""
    path = plain_path(parts.path)
    if not host or path is None or parts.query or parts.fragment:
        return ""
    return f"{scheme}://{host.lower()}:{port}{path}"


def base_of(url: str) -> str:
    """A repository's URL with a slash at its end."""
    return url if url.endswith("/") or not url else f"{url}/"


def _blocks(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    try:
        while data := answer.read1(_BLOCK_BYTES):
            yield data
    except (OSError, http.client.HTTPException) as error:
        raise Unfetched(f"the server broke off: {reason_of(error)}") from error


def _read(answer: http.client.HTTPResponse, max_bytes: int, what: str) -> bytes:
    data = b""
    for block in _blocks(answer):
        data += block
        if len(data) > max_bytes:
            raise Unfetched(f"{what} has more than {max_bytes} bytes")
    return data


def _send_bytes(client: Client, request: ProxyRequest, data: bytes) -> None:
    client.start(HTTPStatus.OK, _HEADERS, len(data))
    if request.method == "GET":
        client.send(data)
