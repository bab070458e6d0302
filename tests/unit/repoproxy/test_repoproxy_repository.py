# SPDX-License-Identifier: GPL-2.0-or-later
"""Repositories with secrets: what the node gets, and what nobody gets. Real servers behind it."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mock_cloud.model import Secret
from mock_cloud.network import Certificates, Login, parse_proxy
from mock_cloud.repoproxy import repository as served
from mock_cloud.repoproxy.access import Access
from mock_cloud.repoproxy.allow import AllowList
from mock_cloud.repoproxy.cache import RepositoryCache, trim
from mock_cloud.repoproxy.repository import ServedRepository
from tests.lab.http import Fault, FileServer
from tests.lab.tls import Authority
from tests.unit.repoproxy.proxied import (
    HOST,
    LOGIN,
    PACKAGE,
    Proxied,
    make,
    package,
    proxied,
)


@pytest.fixture
def secure(tree: Path, firm: Authority) -> Iterator[FileServer]:
    """It wants a client's certificate and a password."""
    context = firm.server("127.0.0.1", clients=True)
    with FileServer({"/r": tree}, context=context, login="me:hunter22") as server:
        yield server


def access_to(server: FileServer, firm: Authority, path: str = "/r") -> Access:
    client = firm.issue("client")
    return Access("r", "r", (f"{server.url}{path}",), login=LOGIN,
                  certificates=Certificates(firm.path, client.certificate, client.key))  # fmt: skip


def test_plain_bytes_for_the_node_and_kept_for_the_next_build(
    secure: FileServer, firm: Authority, tree: Path, cache: RepositoryCache
) -> None:
    one = proxied(access_to(secure, firm), cache)
    repomd = (tree / "repodata/repomd.xml").read_bytes()
    assert one.get(f"{HOST}/repodata/repomd.xml")[::2] == (200, repomd)
    assert one.get(f"{HOST}/Packages/a+b.rpm")[::2] == (200, PACKAGE)
    assert one.get(f"{HOST}/Packages/a%2Bb.rpm", "Range: bytes=7-13")[::2] == (206, PACKAGE[7:14])
    status, head, body = one.get(f"{HOST}/Packages/a+b.rpm", method="HEAD")
    assert (status, body) == (200, b"") and f"Content-Length: {len(PACKAGE)}" in head
    assert one.said == []
    paths = [access.path for access in secure.accesses()]
    assert paths.count("/r/Packages/a+b.rpm") == 1
    secure.forget_accesses()
    next_build = proxied(access_to(secure, firm), cache)
    assert next_build.get(f"{HOST}/repodata/repomd.xml")[0] == 200
    assert next_build.get(f"{HOST}/Packages/a+b.rpm")[::2] == (200, PACKAGE)
    assert [access.path for access in secure.accesses()] == ["/r/repodata/repomd.xml"]


def test_without_a_cache_ranges_are_answered_too(secure: FileServer, firm: Authority) -> None:
    one = proxied(access_to(secure, firm))
    assert one.get(f"{HOST}/Packages/a+b.rpm", "Range: bytes=-7")[::2] == (206, b"package")
    assert one.get(f"{HOST}/Packages/a+b.rpm")[::2] == (200, PACKAGE)


@pytest.mark.parametrize(
    "path",
    ["Packages/unlisted.rpm", "", "repodata/", "../r/Packages/unlisted.rpm", "secret",
     "Packages/a+b.rpm?x=1", "%2e%2e/r/Packages/unlisted.rpm", "mock-cloud-keys/0",
     "mock-cloud-keys/-1", "repodata/repomd.xml/x"],
)  # fmt: skip
def test_a_node_gets_nothing_else_that_the_secrets_open(
    secure: FileServer, firm: Authority, path: str
) -> None:
    one = proxied(access_to(secure, firm))
    status, _, body = one.get(f"{HOST}/{path}")
    assert status == 403 and b"unlisted\n" not in body
    assert not [a for a in secure.accesses() if "unlisted" in a.path or "secret" in a.path]


def test_headers_of_the_nodes_reach_no_server(secure: FileServer, firm: Authority) -> None:
    one = proxied(access_to(secure, firm))
    assert one.get(f"{HOST}/repodata/repomd.xml", "Authorization: Basic evil")[0] == 200
    assert {access.authorization for access in secure.accesses()} == {LOGIN.header}


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"login": None}, 401, "asks for a name and password (401)"),
        ({"login": Login("me", Secret(b"wrong-one"))}, 401, "refuses the name and password (401)"),
        ({"certificates": None}, 502, "asks for a client certificate"),
    ],
)
def test_what_is_wrong_is_said(
    secure: FileServer, firm: Authority, change: dict[str, object], status: int, said: str
) -> None:
    if "certificates" in change:
        change = {"certificates": Certificates(firm.path)}
    one = proxied(replace(access_to(secure, firm), **change))  # type: ignore[arg-type]
    found, head, body = one.get(f"{HOST}/repodata/repomd.xml")
    assert found == status and "authenticate" not in head.lower()
    assert said in one.said[0] and said in body.decode()
    assert "hunter22" not in str(one.said) + head + body.decode() and "wrong-one" not in str(
        one.said
    )
    told = one.get("http://reasons.mock-cloud.invalid/")[2].decode()
    assert said in told and told.startswith("repository 'r': repodata/repomd.xml: 127.0.0.1 ")


def test_certificates_that_are_not_valid(tree: Path, firm: Authority) -> None:
    with FileServer({"/r": tree}, context=firm.server("127.0.0.1", days=-1)) as server:
        one = proxied(access_to(server, firm))
        assert one.get(f"{HOST}/repodata/repomd.xml")[0] == 502
        assert "its certificate is not accepted: certificate has expired" in one.said[0]
        unsure = replace(access_to(server, firm), certificates=Certificates(verifies=False))
        assert proxied(unsure).get(f"{HOST}/repodata/repomd.xml")[0] == 200
    with FileServer({"/r": tree}, context=firm.server("127.0.0.1", clients=True)) as server:
        other = replace(access_to(server, firm), certificates=Certificates())
        one = proxied(other)
        assert one.get(f"{HOST}/repodata/repomd.xml")[0] == 502
        assert "its certificate is not accepted: " in one.said[0]
        old = firm.issue("old", days=-1)
        expired = Certificates(firm.path, old.certificate, old.key)
        one = proxied(replace(access_to(server, firm), certificates=expired))
        assert one.get(f"{HOST}/repodata/repomd.xml")[0] == 502
        assert f"certificate has expired: {old.certificate} expired on 20" in one.said[0]


def test_a_file_that_is_not_what_the_metadata_says(
    secure: FileServer, firm: Authority, tree: Path, cache: RepositoryCache, tmp_path: Path
) -> None:
    """Its last block never reaches the client, and it is kept nowhere."""
    (tree / "Packages/a+b.rpm").write_bytes(PACKAGE[:-1] + b"X")
    one = proxied(access_to(secure, firm), cache)
    _, _, body = one.get(f"{HOST}/Packages/a+b.rpm")
    assert len(body) < len(PACKAGE) and "another checksum" in one.said[0]
    (tree / "Packages/a+b.rpm").write_bytes(PACKAGE + b"X")
    assert one.get(f"{HOST}/Packages/a+b.rpm")[0] == 502 and "another size" in one.said[1]
    (tree / "Packages/a+b.rpm").write_bytes(PACKAGE)
    with secure.fault("/r/Packages", Fault.TRUNCATED):
        assert len(one.get(f"{HOST}/Packages/a+b.rpm")[2]) < len(PACKAGE)
    kept = sorted(path.name[:7] for path in (tmp_path / "cache").glob("*/*"))
    assert kept == ["sha256-"]  # the primary metadata


def test_a_redirect_takes_no_secret_along(secure: FileServer, firm: Authority, tree: Path) -> None:
    client_sees: list[str] = []
    with FileServer({"/s": tree}, context=firm.server("127.0.0.1")) as other:
        secure.redirects["/r/Packages/a+b.rpm"] = f"{other.url}/s/Packages/a+b.rpm"
        one = proxied(access_to(secure, firm))
        assert one.get(f"{HOST}/Packages/a+b.rpm")[::2] == (200, PACKAGE)
        assert [access.authorization for access in other.accesses()] == [""]
        assert client_sees == []
        secure.redirects["/r/Packages/a+b.rpm"] = "http://127.0.0.1:1/"
        assert one.get(f"{HOST}/Packages/a+b.rpm")[0] == 502
        assert "redirects to where nobody follows" in one.said[-1]
        secure.redirects["/r/Packages/a+b.rpm"] = f"{secure.url}/r/Packages/a+b.rpm"
        assert one.get(f"{HOST}/Packages/a+b.rpm")[0] == 502
        assert "redirects too often" in one.said[-1]


@pytest.mark.parametrize("location", ["https://localhost:1/x", "http://[::1]:1/x", "http://[",
                                      "file:///etc/passwd", "https://x:y/", "//"])  # fmt: skip
def test_nobody_is_redirected_to_this_machine(
    tree: Path, location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless the repository is there."""
    with FileServer({"/r": tree}) as server:
        server.redirects["/r/Packages/a+b.rpm"] = location
        one = proxied(Access("r", "r", (f"{server.url}/r",)))
        assert one.get(f"{HOST}/Packages/a+b.rpm")[0] == 502
        assert "redirects" in one.said[0] or "network address" in one.said[0]


def test_a_node_cannot_have_what_another_repository_had(
    secure: FileServer, firm: Authority, tree: Path, tmp_path: Path
) -> None:
    """A hostile repository lists the digest of another one's package: it opens nothing."""
    root = tmp_path / "cache"
    first = access_to(secure, firm)
    assert (
        proxied(first, RepositoryCache(root, first.identity)).get(f"{HOST}/Packages/a+b.rpm")[0]
        == 200
    )
    hostile = make(tmp_path / "hostile", package(PACKAGE, 'href="x.rpm"'))
    with FileServer({"/h": hostile}) as server:
        access = Access("r", "r", (f"{server.url}/h",))
        one = proxied(access, RepositoryCache(root, access.identity))
        assert one.get(f"{HOST}/x.rpm")[0] == 404
        two = Proxied(AllowList(repositories=(
            ServedRepository(access), ServedRepository(replace(first, name="s")),
        )))  # fmt: skip
        assert two.get("http://s.repos.mock-cloud.invalid/x.rpm")[0] == 403
        assert two.get(f"{HOST}/Packages/a+b.rpm")[0] == 403
    assert {access.authorization for access in server.accesses()} == {""}


def test_what_metadata_names_elsewhere(tree: Path, tmp_path: Path) -> None:
    """As Koji's external repositories do. It is checked, and asked without secrets."""
    place = tmp_path / "elsewhere"
    place.mkdir()
    (place / "e.rpm").write_bytes(b"elsewhere")
    (place / "f.rpm").write_bytes(b"something else")
    with (
        FileServer({"/r": tree, "/e": place}, login="me:hunter22") as server,
        FileServer({"/e": place}) as other,
    ):
        make(
            tree,
            package(b"elsewhere", f'xml:base="{other.url}/e" href="e.rpm"'),
            package(b"elsewhere", f'href="f.rpm" xml:base="{other.url}/e/"'),
            package(b"elsewhere", 'href="../e/e.rpm"'),
        )
        one = proxied(Access("r", "r", (f"{server.url}/r",), login=LOGIN))
        assert one.get(f"{other.url}/e/e.rpm")[::2] == (200, b"elsewhere")
        assert one.get(f"{HOST}/e/e.rpm")[::2] == (200, b"elsewhere")
        assert one.get(f"{server.url}/e/e.rpm")[::2] == (200, b"elsewhere")
        assert one.get(f"{other.url}/e/f.rpm")[0] == 502
        assert one.get(f"{other.url}/e/g.rpm")[0] == 403
        assert {access.authorization for access in other.accesses()} == {""}


@pytest.mark.parametrize("host", ["127.0.0.2", "localhost", "169.254.169.254", "[::1]", "0.0.0.0"])  # noqa: S104
def test_metadata_leads_to_nothing_of_this_machine(
    tree: Path, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The repository is another machine's; it names a file here, whose checksum it may know."""
    monkeypatch.setattr(served, "is_public_name", lambda name: name == "127.0.0.1")
    with FileServer({"/r": tree}) as server, FileServer({"/r": tree}, host="0.0.0.0") as own:  # noqa: S104
        url = f"http://{host}:{own.port}/r/Packages"
        make(tree, package(PACKAGE, f'xml:base="{url}" href="a+b.rpm"'))
        one = proxied(Access("r", "r", (f"{server.url}/r",)))
        assert one.get(f"{url}/a+b.rpm")[0] == 502
        assert one.said and not own.accesses()
        monkeypatch.setattr(served, "is_public_name", lambda name: False)
        assert (
            proxied(one_access := Access("r", "r", (f"{server.url}/r",))).get(f"{url}/a+b.rpm")[0]
            == 502
        )
        assert not own.accesses() and one_access


def test_tls_elsewhere_is_opened_to_what_the_metadata_names_only(tree: Path) -> None:
    with FileServer({"/r": tree}) as server:
        make(tree, package(PACKAGE, 'xml:base="https://127.0.0.1:1/" href="a.rpm"'),
             package(PACKAGE, 'xml:base="https://localhost:2/" href="a.rpm"'))  # fmt: skip
        one = proxied(Access("r", "r", (f"{server.url}/r",)))
        assert b" 403 " in one.ask(b"CONNECT 127.0.0.1:22 HTTP/1.1\r\n\r\n")
        assert b" 403 " in one.ask(b"CONNECT 127.0.0.1:10 HTTP/1.1\r\n\r\n")
        assert b" 502 " in one.ask(b"CONNECT 127.0.0.1:1 HTTP/1.1\r\n\r\n")
        assert "refused" in one.said[-1]  # the server, which is the repository's own
        assert b" 502 " in one.ask(b"CONNECT localhost:2 HTTP/1.1\r\n\r\n")
        assert "localhost has no network address" in one.said[-1]


def test_mirrors_are_tried_and_told_only_what_is_theirs(
    secure: FileServer, firm: Authority, tree: Path, tmp_path: Path
) -> None:
    """The list came over TLS: so may the password go. A mirror without TLS is told nothing."""
    lists = tmp_path / "lists"
    lists.mkdir()
    with (
        FileServer({"/r": tree}) as plain,
        FileServer({"/l": lists}, context=firm.server("127.0.0.1"), login="me:hunter22") as lister,
    ):
        (lists / "m").write_text(
            f"# x\n{plain.url}/none/\nrsync://x/\n{plain.url}/r/\n{secure.url}/r\n"
        )
        access = replace(access_to(secure, firm), baseurls=(),
                         lists=(("mirrorlist", f"{lister.url}/l/m"),))  # fmt: skip
        one = proxied(access)
        assert one.get(f"{HOST}/Packages/a+b.rpm")[::2] == (200, PACKAGE)
        assert {access.authorization for access in plain.accesses()} == {""}
        with plain.fault("/r", Fault.SERVER_ERROR):
            assert one.get(f"{HOST}/repodata/repomd.xml")[0] == 200
        assert {access.authorization for access in secure.accesses()} == {LOGIN.header}


def test_a_metalinks_digest_counts(tree: Path, tmp_path: Path) -> None:
    digest = hashlib.sha256((tree / "repodata/repomd.xml").read_bytes()).hexdigest()
    with FileServer({"/r": tree}, login="me:hunter22") as server:
        link = (f'<metalink><hash type="sha256">{digest}</hash><url protocol="http">'
                f"{server.url}/r/repodata/repomd.xml</url></metalink>")  # fmt: skip
        (tree / "metalink").write_text(link)
        access = Access("r", "r", (), (("metalink", f"{server.url}/r/metalink"),), login=LOGIN)
        # A list that anybody could have changed on its way: the mirror is not told the password.
        one = proxied(access)
        assert one.get(f"{HOST}/repodata/repomd.xml")[0] == 401
        server.login = ""
        assert proxied(access).get(f"{HOST}/repodata/repomd.xml")[0] == 200
        make(tree)
        one = proxied(access)
        assert one.get(f"{HOST}/repodata/repomd.xml")[0] == 502
        assert "not the one that the metalink names" in one.said[0]


def test_keys_are_fetched_with_the_secrets_of_their_server(
    secure: FileServer, firm: Authority, tree: Path
) -> None:
    (tree / "KEY").write_text("key")
    with FileServer({"/r": tree}) as other:
        keys = (f"{secure.url}/r/KEY", f"{other.url}/r/KEY")
        one = proxied(replace(access_to(secure, firm), keys=keys))
        assert one.get(f"{HOST}/mock-cloud-keys/0")[::2] == (200, b"key")
        assert one.get(f"{HOST}/mock-cloud-keys/1")[::2] == (200, b"key")
        assert [access.authorization for access in other.accesses()] == [""]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX: a\rSet-Cookie: b\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\nabc",
        b"HTTP/1.1 302 Found\r\nLocation: http://x\r\nEvil: y/\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: \xff\xfe\r\n\r\n",
        b"HTTP/1.1 999 OK\r\n\r\n",
        b"\x1b]0;Evil\x07Cookie\r\n\r\n",
        b"\x00\xff" * 4000,
        b"",
    ],
)
def test_answers_of_a_hostile_server(tmp_path: Path, answer: bytes) -> None:
    """No byte of its heads reaches the node, and each ends with one answer of ours."""
    from tests.unit.repoproxy.test_repoproxy_proxy import Server

    def hostile(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        connection.sendall(answer)

    server = Server(hostile)
    try:
        one = proxied(Access("r", "r", (f"http://127.0.0.1:{server.port}/r",), login=LOGIN))
        found = one.ask(f"GET {HOST}/repodata/repomd.xml HTTP/1.1\r\n\r\n".encode())
        assert found.count(b"HTTP/1.1 ") == 1 and found.startswith(b"HTTP/1.1 502 ")
        assert b"\nEvil" not in found and b"Set-Cookie" not in found and b"\x1b" not in found
        assert all(line.isprintable() for line in one.said)
    finally:
        server.close()


def test_metadata_that_cannot_be_used(tree: Path) -> None:
    with FileServer({"/r": tree}) as server:
        for spoil in (
            lambda: (tree / "repodata/primary.xml.gz").write_bytes(b"x"),
            lambda: make(tree, more='<data type="primary"><checksum type="sha256">' + "0" * 64
                         + '</checksum><location href="repodata/primary.xml.gz"/></data>'),
            lambda: (tree / "repodata/repomd.xml").write_text("<html>please log in</html>"),
        ):  # fmt: skip
            spoil()
            one = proxied(Access("r", "r", (f"{server.url}/r",)))
            assert one.get(f"{HOST}/Packages/a+b.rpm")[0] in (502, 404, 403) and one.said


def test_the_cache_is_bounded_and_private(tmp_path: Path, cache: RepositoryCache) -> None:
    import os
    import stat

    directory = next((tmp_path / "cache").iterdir())
    for number in range(5):
        (directory / f"sha256-{number}").write_bytes(b"x" * 100)
        os.utime(directory / f"sha256-{number}", (number, number))
    trim(tmp_path / "cache", 250)
    assert sorted(path.name for path in directory.iterdir()) == ["sha256-3", "sha256-4"]
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


class _Proxy:
    """An HTTP proxy with a password: what it was asked for."""

    def __init__(self, serve: Callable[[Callable[[socket.socket], None]], object]) -> None:
        self.asked: list[str] = []
        self.port = serve(self._answer).port  # type: ignore[attr-defined]

    def _answer(self, connection: socket.socket) -> None:
        head = connection.recv(1 << 16).decode()
        self.asked.append(head)
        if "Proxy-Authorization: Basic cDpwdw==\r\n" not in head:
            connection.sendall(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n")
            return
        method, target, _ = head.split(" ", 2)
        if method == "CONNECT":
            host, _, port = target.rpartition(":")
            with socket.create_connection((host, int(port))) as server:
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                connection.settimeout(20)
                server.settimeout(20)
                _both_ways(connection, server)
        else:
            connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")


def _both_ways(one: socket.socket, other: socket.socket) -> None:
    import threading

    def pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(1 << 16):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    thread = threading.Thread(target=pump, args=(one, other))
    thread.start()
    pump(other, one)
    thread.join()


def test_through_a_proxy_with_a_password(secure: FileServer, firm: Authority) -> None:
    from tests.unit.repoproxy.test_repoproxy_proxy import Server

    made: list[Server] = []

    def serve(answer: Callable[[socket.socket], None]) -> Server:
        made.append(Server(answer))
        return made[-1]

    proxy = _Proxy(serve)
    try:
        way = parse_proxy(f"http://p:pw@127.0.0.1:{proxy.port}", "x")
        one = proxied(replace(access_to(secure, firm), find_proxy=lambda _url: way))
        assert one.get(f"{HOST}/repodata/repomd.xml")[0] == 200
        assert proxy.asked[0].startswith(f"CONNECT 127.0.0.1:{secure.port} HTTP/1.1\r\n")
        assert "hunter22" not in str(proxy.asked) and "Authorization: Basic bWU6" not in str(
            proxy.asked
        )
        bare = replace(way, login=None)
        one = proxied(replace(access_to(secure, firm), find_proxy=lambda _url: bare))
        assert one.get(f"{HOST}/repodata/repomd.xml")[0] == 502
        assert f"the proxy 127.0.0.1:{proxy.port} asks for a name and password (407)" in one.said[0]
        plain = Access("r", "r", ("http://plain.example/r",), find_proxy=lambda _url: way)
        assert proxied(plain).get(f"{HOST}/repodata/repomd.xml")[0] == 404
        assert proxy.asked[-1].startswith("GET http://plain.example/r/repodata/repomd.xml HTTP/1.1")
    finally:
        for server in made:
            server.close()
    one = proxied(replace(access_to(secure, firm), find_proxy=lambda _url: way))
    assert one.get(f"{HOST}/repodata/repomd.xml")[0] == 502
    assert f"the proxy 127.0.0.1:{proxy.port}: Connection refused" in one.said[0]
