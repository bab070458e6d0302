# SPDX-License-Identifier: GPL-2.0-or-later
"""What a node may ask for: nothing but what an enabled repository names."""

from __future__ import annotations

from pathlib import Path

import pytest

from mock_cloud.repoproxy.access import Scope
from mock_cloud.repoproxy.allow import (
    FILES_HOST,
    LISTS_HOST,
    AllowedPlace,
    AllowList,
    End,
    LocalFile,
    allow_url,
    plain_path,
)

BASE = AllowedPlace("repo.example", 8080, "/dist/1/")
KEY = AllowedPlace("repo.example", 80, "/keys/KEY", exact=True)
LIST = AllowList(
    (BASE, KEY, AllowedPlace("q.example", 80, "/r/", "token=1")),
    (End("secure.example", 443), End("list.example", 443, True)),
    (Path("/srv/repo"),),
    {"/fedora/metalink": b"list"},
)


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("http://repo.example:8080/dist/1/repodata/repomd.xml", BASE),
        ("http://REPO.example.:8080/dist/1/a%2Bb.rpm", BASE),
        ("http://repo.example/keys/KEY", KEY),
        ("http://q.example/r/x?token=1", LIST.places[2]),
        (f"http://{FILES_HOST}/srv/repo/a/b.rpm", LocalFile(Path("/srv/repo"), "a/b.rpm")),
        (f"http://{LISTS_HOST}/fedora/metalink", b"list"),
    ],
)
def test_what_repositories_name_is_found(url: str, found: object) -> None:
    assert LIST.find(url) == found


@pytest.mark.parametrize(
    "url",
    [
        "http://repo.example/dist/1/x",  # another port
        "http://other.example:8080/dist/1/x",
        "https://repo.example:8080/dist/1/x",
        "ftp://repo.example:8080/dist/1/x",
        "file:///srv/repo/x",
        "/dist/1/x",
        "http:///dist/1/x",
        "http://repo.example:99999/dist/1/x",
        "http://[repo.example:8080/dist/1/x",
        "http://repo.example:8080/dist/10/x",
        "http://repo.example:8080/dist/1",
        "http://repo.example:8080/dist/1/../2/x",
        "http://repo.example:8080/dist/1/%2e%2E/2/x",
        "http://repo.example:8080/dist/1/..;a=b/2/x",
        "http://repo.example:8080/dist/1/.%2e%3b/2/x",
        "http://repo.example:8080/dist/1/..%2f2/x",
        "http://repo.example:8080/dist/1/..\\2\\x",
        "http://repo.example:8080/dist/1/..%5c2",
        "http://repo.example:8080/dist/1/%00",
        "http://repo.example:8080/dist/1/%ff",
        "http://repo.example:8080/dist/1/x%0d%0aHost:%20y",
        "http://repo.example:8080/dist/1/x?a=b",
        "http://repo.example:8080/dist/1/x#y",
        "http://repo.example/keys/KEY/x",
        "http://repo.example/keys/",
        "http://q.example/r/x",
        "http://q.example/r/x?token=2",
        "http://user@other.example:8080@x/dist/1/",
        "http://secure.example:443/",
        f"http://{FILES_HOST}/srv/repository/x",
        f"http://{FILES_HOST}/srv/repo",
        f"http://{FILES_HOST}/etc/passwd",
        f"http://{FILES_HOST}/srv/repo/../../etc/passwd",
        f"http://{FILES_HOST}/srv/repo/%2e%2e/x",
        f"http://{FILES_HOST}:81/srv/repo/x",
        f"http://{LISTS_HOST}/other/metalink",
        f"http://{LISTS_HOST}/fedora/metalink?x",
        "http://169.254.169.254/latest/meta-data/",
        "http://127.0.0.1:22/",
    ],
)
def test_everything_else_is_refused(url: str) -> None:
    assert LIST.find(url) is None
    assert AllowList().find(url) is None


def test_tls_goes_to_named_hosts_and_ports_only() -> None:
    assert LIST.find_end("Secure.Example", 443) == End("secure.example", 443)
    for host, port in (("secure.example", 22), ("repo.example", 8080), ("example", 443), ("", 0)):
        assert LIST.find_end(host, port) is None


def test_the_configurations_own_url_counts_more_than_a_lists() -> None:
    own, listed = End("h", 443), End("h", 443, Scope.PUBLIC)
    assert AllowList(ends=(listed, own)).find_end("h", 443) == own


@pytest.mark.parametrize(
    ("url", "entry"),
    [
        ("http://h/a/b", AllowedPlace("h", 80, "/a/b/")),
        ("http://u@[::1]:81/a%20b/?x", AllowedPlace("::1", 81, "/a b/", "x")),
        ("https://h:444/a", End("h", 444)),
        ("http://h/../a", None),
        ("http://h:x/", None),
        ("http://", None),
        ("rsync://h/a", None),
        (f"http://{'h' * 254}/", None),
    ],
)
def test_entries_of_urls(url: str, entry: object) -> None:
    assert allow_url(url) == entry


def test_paths_are_compared_decoded() -> None:
    assert plain_path("/a/%7Eb/c%20d") == "/a/~b/c d"
    assert plain_path("/a//...") == "/a//..."
    assert plain_path("a") is None
