# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks on repositories with secrets: by their servers, by other repositories, by nodes."""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mock_cloud import places
from mock_cloud.errors import ConfigError
from mock_cloud.network import Certificates, parse_proxy
from mock_cloud.repoproxy import repository as served
from mock_cloud.repoproxy.access import Access, Scope
from mock_cloud.repoproxy.allow import AllowedPlace, AllowList, End
from mock_cloud.repoproxy.cache import RepositoryCache
from mock_cloud.repoproxy.metadata import ListedFile
from mock_cloud.repoproxy.repository import ServedRepository
from mock_cloud.repoproxy.upstream import scope_beyond
from tests.lab.http import FileServer
from tests.lab.tls import Authority
from tests.unit.repoproxy.proxied import HOST, LOGIN, PACKAGE, Proxied, Server, make, proxied

Serve = Callable[[Callable[[socket.socket], None]], Server]
UNKNOWN = "0" * 64
SECRET = b"a file of the same server that the secrets open " * 40_000


def unsized(location: str) -> str:
    """A package of which the metadata says neither size nor a checksum that anybody knows."""
    return (f'<package type="rpm"><name>p</name><checksum type="sha256">{UNKNOWN}</checksum>'
            f"<location {location}/></package>")  # fmt: skip


@pytest.mark.parametrize("href", ["../private/file", "/private/file", "x/../../private/file",
                                  "//127.0.0.1:{port}/private/file", "../r/../private/file",
                                  "%2e%2e/private/file"])  # fmt: skip
@pytest.mark.parametrize("size", ["", '<size package="{size}"/>'])
def test_metadata_opens_no_other_file_of_the_server(
    tree: Path,
    tmp_path: Path,
    href: str,
    size: str,
) -> None:
    """Who writes one repository's metadata, and sits on a node, reads what the secrets open."""
    private = tmp_path / "private"
    private.mkdir()
    (private / "file").write_bytes(SECRET)
    mounts = {"/r": tree, "/private": private}
    with FileServer(mounts, login="me:hunter22") as server:
        found = href.format(port=server.port)
        listed = unsized(f'href="{found}"').replace("<location", size.format(size=len(SECRET))
                                                    + "<location")  # fmt: skip
        make(tree, listed)
        one = proxied(Access("r", "r", (f"{server.url}/r",), login=LOGIN))
        for place in ("private/file", "r/private/file"):
            assert b"secrets open" not in one.get(f"{HOST}/{place}")[2]
        assert b"secrets open" not in one.get(f"{server.url}/private/file")[2]


@pytest.mark.parametrize("base", ["", 'xml:base="//127.0.0.1:{port}/"', 'xml:base="/"'])
def test_metadata_reads_nothing_of_this_machines_own(
    tree: Path,
    tmp_path: Path,
    base: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A URL without a scheme leads elsewhere too."""
    monkeypatch.setattr(served, "is_public_name", lambda _name: True)
    own_files = tmp_path / "own"
    own_files.mkdir()
    (own_files / "file").write_bytes(SECRET)
    with FileServer({"/r": tree}) as server, FileServer({"/own": own_files}) as own:
        where = base.format(port=own.port)
        href = "own/file" if where else f"//127.0.0.1:{own.port}/own/file"
        make(tree, unsized(f'{where} href="{href}"'))
        # By another name than the address of what is attacked.
        one = proxied(Access("r", "r", (f"http://localhost:{server.port}/r",)))
        one.get(f"{HOST}/own/file")
        one.get(f"http://127.0.0.1:{own.port}/own/file")
        assert own.accesses() == ()


def own_address() -> str:
    """An address of this machine that other machines use."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # RFC 5737: nothing is sent
        except OSError:
            pytest.skip("this machine has no address but its loopback's")
        return str(probe.getsockname()[0])


def test_a_mirror_list_of_the_network_leads_to_nothing_of_this_machine(
    tree: Path, tmp_path: Path
) -> None:
    """Whoever writes it would have this machine ask its own services, by any path."""
    lists = tmp_path / "lists"
    lists.mkdir()
    with FileServer({"/l": lists}, host=own_address()) as lister, FileServer({"/r": tree}) as own:
        (lists / "m").write_text(f"{own.url}/r/\n")
        one = proxied(Access("r", "r", (), (("mirrorlist", f"{lister.url}/l/m"),)))
        assert one.get(f"{HOST}/repodata/repomd.xml")[0] == 502
        assert "address" in one.said[0] and own.accesses() == ()
        scope = scope_beyond(lister.url.split("/")[2].partition(":")[0])
        there = AllowedPlace("127.0.0.1", own.port, "/r/", scope=scope)
        end = End("127.0.0.1", own.port, scope)
        two = Proxied(AllowList((there,), (end,)))
        assert two.get(f"{own.url}/r/repodata/repomd.xml")[0] == 502
        assert b" 502 " in two.ask(f"CONNECT 127.0.0.1:{own.port} HTTP/1.1\r\n\r\n".encode())
        assert own.accesses() == ()
        # One that is here itself may lead here.
        assert scope_beyond("127.0.0.1") is Scope.ANY


def test_a_redirect_takes_no_certificate_along(
    tree: Path,
    firm: Authority,
    serve: Serve,
) -> None:
    """The other server would take one, if it were shown."""
    shown: list[object] = []
    context = firm.server("127.0.0.1", clients=True)
    context.verify_mode = ssl.CERT_OPTIONAL

    def other(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            head = secured.recv(1 << 16)
            shown.append((secured.getpeercert(), b"Authorization" in head))
            secured.sendall(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")

    client = firm.issue("client")
    with FileServer({"/r": tree}, context=firm.server("127.0.0.1", clients=True)) as server:
        found = serve(other)
        server.redirects["/r/Packages/a+b.rpm"] = f"https://me:hunter22@127.0.0.1:{found.port}/x"
        certificates = Certificates(firm.path, client.certificate, client.key)
        one = proxied(Access("r", "r", (f"{server.url}/r",), login=LOGIN,
                             certificates=certificates))  # fmt: skip
        assert one.get(f"{HOST}/Packages/a+b.rpm")[0] == 404
        assert shown in ([({}, False)], [(None, False)])


@pytest.mark.parametrize(
    ("status", "header"),
    [("401", 'WWW-Authenticate: Basic realm="who are you?"'),
     ("401", "WWW-Authenticate: Negotiate"),
     ("407", 'Proxy-Authenticate: Basic realm="who are you?"')],
)  # fmt: skip
def test_a_server_that_asks_who_we_are_is_told_nothing_more(
    serve: Serve,
    status: str,
    header: str,
) -> None:
    """A mirror without TLS of a repository that has a password; nor does the node hear of it."""
    asked: list[bytes] = []

    def hostile(connection: socket.socket) -> None:
        asked.append(connection.recv(1 << 16))
        connection.sendall(f"HTTP/1.1 {status} x\r\n{header}\r\nContent-Length: 0\r\n\r\n".encode())

    server = serve(hostile)
    access = Access("r", "r", (f"http://127.0.0.1:{server.port}/r",))
    found, head, _ = proxied(access).get(f"{HOST}/repodata/repomd.xml", "Authorization: Basic x")
    assert found in (401, 502) and "authenticate" not in head.lower()
    assert len(asked) == 1 and b"uthorization" not in asked[0]


@pytest.mark.parametrize("evil", ["&#13;&#10;Evil: x", "%0d%0aEvil:%20x", "\\r\\nEvil: x",
                                  "&#x85;Evil: x", "&#0;Evil: x"])  # fmt: skip
def test_names_in_metadata_and_lists_make_no_header(
    serve: Serve,
    tmp_path: Path,
    evil: str,
) -> None:
    heads: list[bytes] = []

    def note(connection: socket.socket) -> None:
        heads.append(connection.recv(1 << 16))
        connection.sendall(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    noting = serve(note)
    url = f"http://127.0.0.1:{noting.port}"
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "link").write_text(
        f"<metalink><url>{url}/{evil.replace(' ', '%20')}/repodata/repomd.xml</url></metalink>"
    )
    (lists / "mirrors").write_text(f"{url}/{evil}/\n")
    repo = make(tmp_path / "evil", unsized(f'xml:base="{url}/{evil}" href="{evil}.rpm"'))
    with FileServer({"/l": lists, "/e": repo}) as lister:
        for option in ("metalink", "mirrorlist"):
            name = "link" if option == "metalink" else "mirrors"
            one = proxied(Access("r", "r", (), ((option, f"{lister.url}/l/{name}"),)))
            one.get(f"{HOST}/repodata/repomd.xml")
        one = proxied(Access("r", "r", (f"{lister.url}/e",)))
        one.get(f"{HOST}/{evil.replace(' ', '%20')}.rpm")
        one.get(f"{url}/{evil.replace(' ', '%20')}/{evil.replace(' ', '%20')}.rpm")
    lines = [line for head in heads for line in head.splitlines()]
    assert not [line for line in lines if line.lower().startswith(b"evil")]
    assert all(head.count(b"\r\n\r\n") == 1 for head in heads if head)


def test_a_proxy_is_asked_for_names_only(serve: Serve) -> None:
    """A mirror's name with a space in it would be another request line."""
    heads: list[bytes] = []

    def note(connection: socket.socket) -> None:
        heads.append(connection.recv(1 << 16))
        connection.sendall(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")

    way = parse_proxy(f"http://p:pw@127.0.0.1:{serve(note).port}", "x")
    for host in ("a b", "a\x0bb", "a\tb", "a\xa0b", "a#b", "a\\b"):
        access = Access("r", "r", (f"https://{host}.example/r",), find_proxy=lambda _url: way)
        assert proxied(access).get(f"{HOST}/repodata/repomd.xml")[0] == 502
    for head in heads:
        first = head.split(b"\r\n")[0]
        assert first.count(b" ") == 2 and first.isascii() and head.count(b"\r\n\r\n") == 1


def test_a_node_learns_nothing_of_other_repositories(
    tree: Path,
    tmp_path: Path,
) -> None:
    """One with secrets, one that is hostile: each host has its own, and what fails fails alike."""
    hostile = make(tmp_path / "hostile", unsized('href="x.rpm"'))
    with FileServer({"/r": tree}, login="me:hunter22") as server, FileServer({"/h": hostile}) as h:
        mine = Access("mine", "mine", (f"{server.url}/r",), login=LOGIN)
        theirs = Access("r", "r", (f"{h.url}/h",))
        two = Proxied(AllowList(repositories=(ServedRepository(mine), ServedRepository(theirs))))
        own = "http://mine.repos.mock-cloud.invalid"
        assert two.get(f"{own}/Packages/a+b.rpm")[::2] == (200, PACKAGE)
        for url in (f"{HOST}/Packages/a+b.rpm", f"{own}.evil/Packages/a+b.rpm",
                    f"{server.url}/r/Packages/a+b.rpm", f"{own}:81/Packages/a+b.rpm",
                    f"http://me:hunter22@mine.repos.mock-cloud.invalid@{h.port}/x"):  # fmt: skip
            status, _, body = two.get(url, "Host: mine.repos.mock-cloud.invalid")
            assert status in (400, 403) and b"package" not in body
        there = [two.get(f"{HOST}/{name}")[0] for name in ("Packages/a+b.rpm", "Packages/none.rpm")]
        assert there == [403, 403]
    assert {one.authorization for one in h.accesses()} <= {""}


def test_users_of_one_controller_share_no_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one's $XDG_CACHE_HOME, as sudo may leave it, is not used."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to give a directory away")
    theirs, mine = tmp_path / "theirs", tmp_path / "mine"
    (theirs / "mock-cloud").mkdir(parents=True)
    mine.mkdir()
    os.chown(theirs / "mock-cloud", 4321, 4321)
    monkeypatch.setenv("XDG_CACHE_HOME", str(theirs))
    with pytest.raises(ConfigError, match="belongs to another user"):
        places.cache_dir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(mine))
    assert places.cache_dir().stat().st_mode & 0o077 == 0


def test_a_file_of_the_cache_that_became_another_is_not_given_away(tmp_path: Path) -> None:
    """As after a crash: its name was written, its bytes were not."""
    cache = RepositoryCache(tmp_path / "cache", "r")
    data = b"x" * 1000
    listed = ListedFile("a", "", "sha256", hashlib.sha256(data).hexdigest(), len(data))
    with cache.draft() as draft:
        draft.write(data)
        cache.keep(draft, listed)
    found = cache.find(listed)
    assert found is not None
    os.close(found)
    (kept,) = (tmp_path / "cache").glob("*/*")
    kept.write_bytes(b"")
    assert cache.find(listed) is None
    kept.unlink()
    kept.symlink_to("/etc/hostname")
    assert cache.find(replace(listed, size=None)) is None
