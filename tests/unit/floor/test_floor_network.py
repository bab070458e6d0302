# SPDX-License-Identifier: GPL-2.0-or-later
"""Proxies and authorities: one rule."""

from __future__ import annotations

import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mock_cloud import network
from mock_cloud.errors import ConfigError
from mock_cloud.network import (
    BUNDLES,
    Certificates,
    authorities_file,
    find_proxy,
    is_exempt,
    parse_proxy,
    split_login,
    tls_context,
)
from tests.lab.tls import Authority


@pytest.mark.parametrize(
    ("words", "host", "port", "exempt"),
    [
        ("*", "a.example", 80, True),
        ("example", "a.example", 80, True),
        (".example", "a.example", 80, True),
        ("*.example", "a.example", 80, True),
        (".example", "example", 80, True),
        ("example", "notexample", 80, False),
        ("A.Example.", "a.example", 80, True),
        ("a.example:8443", "a.example", 8443, True),
        ("a.example:8443", "a.example", 443, False),
        ("x, a.example", "a.example", 80, True),
        ("x a.example", "a.example", 80, True),
        ("10.0.0.0/8", "10.1.2.3", 80, True),
        ("10.0.0.0/8", "11.1.2.3", 80, False),
        ("10.1.2.3", "10.1.2.3", 80, True),
        ("10.1.2.3:81", "10.1.2.3", 80, False),
        ("10.1.2.3:80", "10.1.2.3", 80, True),
        ("fd00::/8", "fd00::1", 80, True),
        ("::1", "::1", 80, True),
        ("[::1]:80", "::1", 80, True),
        ("[::1]:81", "::1", 80, False),
        ("10.0.0.0/8", "ten.example", 80, False),
        ("", "a.example", 80, False),
        (":80,a:b,://,/8", "a.example", 80, False),
    ],
)
def test_no_proxy(words: str, host: str, port: int, exempt: bool) -> None:
    assert is_exempt(host, port, {"no_proxy": words}) is exempt
    assert is_exempt(host, port, {"NO_PROXY": words}) is exempt


@pytest.mark.parametrize(
    ("environ", "url", "found"),
    [
        ({"http_proxy": "http://p:1"}, "http://h/", "p:1"),
        ({"http_proxy": "http://p:1"}, "https://h/", None),
        ({"HTTPS_PROXY": "http://p:1"}, "https://h/", "p:1"),
        ({"https_proxy": "", "HTTPS_PROXY": "http://p:1"}, "https://h/", None),
        ({"all_proxy": "http://p:1"}, "https://h/", "p:1"),
        ({"https_proxy": "p"}, "https://h/", "p:1080"),
        ({"https_proxy": "p:3128"}, "https://h/", "p:3128"),
        ({"https_proxy": "http://p:1", "no_proxy": "h"}, "https://h/", None),
        ({"https_proxy": "http://p:1", "no_proxy": "h:8443"}, "https://h/", "p:1"),
        ({"https_proxy": "http://p:1", "no_proxy": "h:8443"}, "https://h:8443/", None),
        ({"HTTP_PROXY": "http://p:1", "REQUEST_METHOD": "GET"}, "http://h/", None),
        ({}, "http://h/", None),
    ],
)
def test_the_environments_proxies(environ: dict[str, str], url: str, found: str | None) -> None:
    proxy = find_proxy(url, environ)
    assert (str(proxy) if proxy else None) == found


def test_a_proxys_password_is_shown_nowhere() -> None:
    proxy = parse_proxy("http://me:hunt%40er@p:1", "x")
    assert proxy.login is not None and proxy.login.password.reveal() == b"hunt@er"
    assert "hunt" not in f"{proxy} {proxy!r}" and str(proxy) == "p:1"
    for text in ("socks5://p:1", "http://", "http://p:x", "http://[p"):
        with pytest.raises(ConfigError, match=r"^it"):
            parse_proxy(text, "it")


def test_names_and_passwords_of_urls() -> None:
    assert split_login("http://h/a@b") == ("http://h/a@b", None)
    url, login = split_login("https://u%3A:p%2F@h:1/a?b")
    assert url == "https://h:1/a?b" and login is not None
    assert (login.user, login.password.reveal()) == ("u:", b"p/")


@pytest.mark.parametrize("variable", BUNDLES)
def test_a_firms_authority_counts_wherever_it_is_named(variable: str, tmp_path: Path) -> None:
    firm = Authority(tmp_path)
    environ = {variable: str(firm.path)}
    names = {str(one["subject"]) for one in tls_context(environ=environ).get_ca_certs()}
    assert any("a firm" in name for name in names) and len(names) > 1
    alone = tls_context(Certificates(firm.path), environ).get_ca_certs()
    assert len(alone) == 1
    made = authorities_file(tmp_path / "cache", environ)
    assert made is not None and firm.path.read_text() in made.read_text()
    assert authorities_file(tmp_path / "cache", environ) == made
    ssl.create_default_context(cafile=made)
    environ[variable] = str(tmp_path / "none")
    with pytest.raises(ConfigError, match=f"{variable}: {tmp_path}/none .*No such file"):
        tls_context(environ=environ)


def test_the_file_of_authorities_is_made_by_several_threads_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who ends nodes of several remotes, or asks them, does so at once."""
    environ = {BUNDLES[0]: str(Authority(tmp_path).path)}
    begin = threading.Barrier(8)
    monkeypatch.setattr(network, "tls_context", lambda **_: begin.wait())
    with ThreadPoolExecutor(begin.parties) as pool:
        for number in range(100):
            directory = tmp_path / str(number)
            tasks = [pool.submit(authorities_file, directory, environ) for _ in range(8)]
            (made,) = {task.result() for task in tasks}
            assert made is not None and made.exists()


def test_without_any_it_is_the_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path / "store.pem"
    monkeypatch.setattr(network, "CA_BUNDLES", ("/none", str(store)))
    assert authorities_file(tmp_path, {}) is None
    store.touch()
    assert authorities_file(tmp_path, {}) == store


def test_a_key_that_does_not_fit(tmp_path: Path) -> None:
    firm = Authority(tmp_path)
    one, other = firm.issue("one"), firm.issue("other")
    with pytest.raises(ConfigError, match=r"cannot be used: .*MISMATCH"):
        tls_context(Certificates(client=one.certificate, key=other.key))
