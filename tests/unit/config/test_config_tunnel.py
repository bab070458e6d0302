# SPDX-License-Identifier: GPL-2.0-or-later
"""Which repositories go through this machine, what dnf is told, what that opens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mock_cloud.agent.engine.repos import parse_repositories
from mock_cloud.config.tunnel import (
    MIRRORS_MAX,
    MirrorList,
    Repositories,
    Source,
    Way,
    allow_list,
    choose_way,
    read_mirrors,
    read_sources,
    rewrite,
    without_hosts,
)
from mock_cloud.errors import ConfigError, UnsupportedByEngine
from mock_cloud.repoproxy.access import Scope
from mock_cloud.repoproxy.allow import FILES_HOST, LISTS_HOST, AllowedPlace, End
from mock_cloud.settings import RepoAccess
from mock_cloud.wire.job_request import TUNNEL_PROXY

MAIN = "[main]\nreposdir=/dev/null\n"
VARIABLES = {"releasever": "7", "where": "file:///srv"}
DIRECT, TUNNEL, AUTO = RepoAccess.DIRECT, RepoAccess.TUNNEL, RepoAccess.AUTO


def repositories(text: str, **environment: str) -> Repositories:
    return Repositories(MAIN + text, VARIABLES, (), environment)


def source(options: str, **environment: str) -> Source:
    (found,) = read_sources(repositories(f"[r]\n{options}\n", **environment))
    return found


@pytest.mark.parametrize(
    ("options", "auto", "shared"),
    [
        ("baseurl=http://far.example/$releasever", Way.ASKED, Way.DIRECT),
        ("mirrorlist=https://far.example/l", Way.ASKED, Way.DIRECT),
        ("baseurl=http://127.1.2.3:81/", Way.TUNNEL, Way.DIRECT),
        ("baseurl=http://localhost/", Way.TUNNEL, Way.DIRECT),
        ("baseurl=http://[::1]/", Way.TUNNEL, Way.DIRECT),
        ("baseurl=http://169.254.1.1/", Way.TUNNEL, Way.DIRECT),
        ("baseurl=file:///srv/r", Way.TUNNEL, Way.TUNNEL),
        ("baseurl=http://far.example/,\n  /srv/r", Way.TUNNEL, Way.TUNNEL),
        ("baseurl=$where/r", Way.TUNNEL, Way.TUNNEL),
        ("mirrorlist=file:///srv/m", Way.TUNNEL, Way.TUNNEL),
        ("metalink = /srv/m", Way.TUNNEL, Way.TUNNEL),
        ("baseurl=http://far.example/\nproxy=http://p:1", Way.TUNNEL, Way.DIRECT),
        ("baseurl=http://far.example/\nproxy=_none_", Way.ASKED, Way.DIRECT),
        ("baseurl=ftp://far.example/", Way.DIRECT, Way.DIRECT),
        ("baseurl=http:///nowhere", Way.DIRECT, Way.DIRECT),
        ("name=nothing", Way.DIRECT, Way.DIRECT),
        ("baseurl=http://stand-in.invalid/", Way.DIRECT, Way.DIRECT),
    ],
)
def test_auto(options: str, auto: Way, shared: Way) -> None:
    assert choose_way(source(options), AUTO, shares_network=False) is auto
    assert choose_way(source(options), AUTO, shares_network=True) is shared


def test_direct_and_tunnel_are_what_they_say() -> None:
    far, file = source("baseurl=http://far.example/"), source("baseurl=$where/r")
    assert choose_way(far, DIRECT, shares_network=False) is Way.DIRECT
    assert choose_way(far, TUNNEL, shares_network=True) is Way.TUNNEL
    assert choose_way(file, TUNNEL, shares_network=True) is Way.TUNNEL
    with pytest.raises(UnsupportedByEngine, match="'r' is on this machine: file:///srv/r") as why:
        choose_way(file, DIRECT, shares_network=False)
    assert "repo_access" in str(why.value.hint)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ("baseurl=ftp://far.example/", "ftp://"),
        ("baseurl=http://far.example/$what/", r"\$what"),
        ("baseurl=http://far.example/../x", r"\.\."),
        ("baseurl=file:///srv/$what", r"\$what"),
        ("baseurl=file:///", "all of this machine"),
        ("baseurl=file:///srv/..", "all of this machine"),
    ],
)
def test_what_cannot_be_tunnelled_is_refused_by_name(options: str, named: str) -> None:
    with pytest.raises(UnsupportedByEngine, match=named):
        choose_way(source(options), TUNNEL, shares_network=False)


def test_a_proxy_of_the_environment_counts() -> None:
    assert source("baseurl=http://h/", http_proxy="http://p:1").has_proxy
    assert not source("baseurl=https://h/", http_proxy="http://p:1").has_proxy
    assert not source("baseurl=http://h/\nproxy=_none_", http_proxy="http://p:1").has_proxy


def test_what_is_open_is_reached_by_the_repositorys_proxy() -> None:
    one = source("baseurl=http://a.example/x https://b.example/\nproxy=http://u:p@p.example:81")
    allowed = allow_list([one], [])
    proxies = [entry.proxy for entry in (*allowed.places, *allowed.ends)]
    assert [str(proxy) for proxy in proxies] == ["p.example:81"] * 2
    assert proxies[0] is not None and proxies[0].login is not None


def test_only_enabled_ones_count_and_a_url_must_be_one() -> None:
    text = "[a]\nbaseurl=http://h/\nenabled=0\n[b]\nbaseurl=http://h/\n"
    assert [one.id for one in read_sources(repositories(text))] == ["b"]
    switched = Repositories(MAIN + text, {}, (["--enablerepo", "*"], ["--disablerepo", "b"]))
    assert [one.id for one in read_sources(switched)] == ["a"]
    with pytest.raises(ConfigError, match="'r'"):
        source("baseurl=http://[h/")
    with pytest.raises(ConfigError, match="'r'"):
        source("baseurl=http://h:port/")


def test_the_text_for_the_node_keeps_all_but_the_way() -> None:
    text = (
        "[a]\nname=A\nbaseurl = http://far.example/$releasever/ , $where/r%20x\n\t/srv/y\n"
        "proxy=_none_\ngpgkey=file://@GPGKEYS@/K\n[b]\nbaseurl=http://b.example/\n"
        "[c]\nmetalink=\n  https://c.example/m\nmirrorlist = http://c.example/l # x\n"
    )
    given = repositories(text)
    a, b, c = read_sources(given)
    assert rewrite(given, []) == given.text
    made = rewrite(given, [a, c])
    assert made == MAIN + (
        f"[a]\nproxy={TUNNEL_PROXY}\nname=A\n"
        f"baseurl = http://far.example/$releasever/ , http://{FILES_HOST}/srv/r%20x/\n"
        f"\thttp://{FILES_HOST}/srv/y/\n"
        "gpgkey=file://@GPGKEYS@/K\n[b]\nbaseurl=http://b.example/\n"
        f"[c]\nproxy={TUNNEL_PROXY}\nmetalink=\n  http://{LISTS_HOST}/c/metalink\n"
        f"mirrorlist = http://{LISTS_HOST}/c/mirrorlist\n"
    )
    keys: dict[str, Any] = {"releasever": "7", "arch": "x86_64", "variables": {}, "switches": []}
    on_node = parse_repositories(made, **keys, tunnel="http://127.0.0.1:5")
    assert [one.tunnel for one in on_node] == ["http://127.0.0.1:5", "", "http://127.0.0.1:5"]
    assert [one.proxy for one in on_node] == ["", "", ""]
    assert b.ends == (("b.example", 80),)


def test_what_a_repository_opens() -> None:
    one = source("baseurl=http://a.example/x http://b.example:81/ https://c.example/ file:///srv/r\n"
                 "gpgkey=https://k.example/K http://k.example/K file:///etc/K")  # fmt: skip
    allowed = allow_list([one], [])
    assert allowed.places == (
        AllowedPlace("a.example", 80, "/x/"),
        AllowedPlace("b.example", 81, "/"),
        AllowedPlace("k.example", 80, "/K", exact=True),
    )
    assert allowed.ends == (End("c.example", 443), End("k.example", 443))
    assert allowed.directories == (Path("/srv/r"),)


METALINK = """<?xml version="1.0"?><metalink><hash type="sha256">aa</hash><resources>
 <url protocol="https" type="https">https://m.example/f/repodata/repomd.xml</url>
 <url protocol="rsync" preference="1">rsync://m.example/f/repodata/repomd.xml</url>
 <url protocol="http">http://n.example/f/repodata/repomd.xml?a=1&amp;b=2</url>
 <url protocol="http">http://n.example/f%20g/repodata/repomd.xml</url>
 <url>http://n.example/../repodata/repomd.xml</url></resources></metalink>"""


def test_mirrors_of_a_metalink() -> None:
    given = MirrorList("r", "metalink", METALINK, scope=Scope.PUBLIC)
    text, mirrors = read_mirrors(given)
    assert mirrors == ("https://m.example/f/", "http://n.example/f%20g/")
    assert text.count("<url") == 2 and '<hash type="sha256">aa</hash>' in text
    allowed = allow_list([], [given])
    assert allowed.ends == (End("m.example", 443, Scope.PUBLIC),)
    assert allowed.places == (AllowedPlace("n.example", 80, "/f g/", scope=Scope.PUBLIC),)
    assert allowed.find(f"http://{LISTS_HOST}/r/metalink") == text.encode()


def test_mirrors_of_a_mirrorlist_are_bounded() -> None:
    lines = ["# comment", "ftp://m.example/", *(f"http://m{n}.example/r/" for n in range(2000))]
    text, mirrors = read_mirrors(MirrorList("r", "mirrorlist", "\n".join(lines), scope=Scope.ANY))
    assert len(mirrors) == MIRRORS_MAX and text.startswith("http://m0.example/r/\n")
    for useless in ("", "<html>please log in</html>", "rsync://m/"):
        with pytest.raises(UnsupportedByEngine, match="'r'"):
            read_mirrors(MirrorList("r", "mirrorlist", useless, scope=Scope.ANY))


def test_a_list_of_this_machine_may_name_its_directories_and_no_other_may() -> None:
    text = "file:///srv/a%20mirror\n/srv/other/\nfile:///\nfile:///srv/$releasever\n"
    own = MirrorList("r", "mirrorlist", text, scope=Scope.ANY, is_own=True)
    shown, mirrors = read_mirrors(own)
    assert mirrors == ("file:///srv/a%20mirror", "/srv/other/")
    assert shown == f"http://{FILES_HOST}/srv/a%20mirror/\nhttp://{FILES_HOST}/srv/other/\n"
    allowed = allow_list([], [own])
    assert allowed.directories == (Path("/srv/a mirror"), Path("/srv/other"))
    for scope in Scope:  # a server's, be it this network's: it opens no file here
        with pytest.raises(UnsupportedByEngine, match="'r'"):
            read_mirrors(MirrorList("r", "mirrorlist", text, scope=scope))
    https = MirrorList("r", "mirrorlist", f"https://m.example/\n{text}", scope=Scope.ANY)
    assert allow_list([], [https]).directories == ()


@pytest.mark.parametrize(
    ("value", "left"),
    [
        ("localhost,.example.org", "localhost"),
        ("other.org, repo.example.org", "other.org"),
        ("example.org:80", ""),
        ("*", ""),
        ("10.0.0.0/8,192.168.0.0/16", "192.168.0.0/16"),
        ("xample.org", "xample.org"),
    ],
)
def test_no_proxy_keeps_nobody_from_the_tunnel(value: str, left: str) -> None:
    assert without_hosts(value, {"repo.example.org", "10.1.2.3"}) == left
