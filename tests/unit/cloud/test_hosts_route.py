# SPDX-License-Identifier: GPL-2.0-or-later
"""The way to a host, as OpenSSH's own client reads its configuration."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from mock_cloud.cloud.hosts.route import Route, find_route, quote_command
from mock_cloud.errors import ConfigError
from mock_cloud.model import UserKeys
from mock_cloud.settings import HostSettings
from mock_cloud.sshkeys import make_key_pair

pytestmark = pytest.mark.skipif(shutil.which("ssh") is None, reason="needs OpenSSH's client")
KEY = make_key_pair().public


def route(place: Path, config: str, address: str = "alpha", **more: object) -> Route:
    path = place / "config"
    path.write_text(config)
    host = HostSettings(
        "a",
        address,
        "Alice",
        "x86_64",
        host_key=KEY,
        ssh_config=path,
        **more,  # type: ignore[arg-type]
    )
    return find_route(host)


def test_a_host_without_configuration_is_reached_by_tcp(tmp_path: Path) -> None:
    found = route(tmp_path, "", "2001:db8::1", port=2222)
    assert (found.host, found.port, found.hops, found.proxy) == ("2001:db8::1", 2222, (), ())


def test_what_the_configuration_says(tmp_path: Path) -> None:
    for name in ("one", "root-alpha"):
        (tmp_path / name).write_text("")
    found = route(
        tmp_path,
        "Host alpha\n HostName 10.0.0.5\n Port 2200\n User somebody\n"
        f" IdentityFile {tmp_path}/one\n IdentityFile {tmp_path}/%r-%n\n"
        f" IdentityFile {tmp_path}/absent\n IdentitiesOnly yes\n",
    )
    assert (found.host, found.port) == ("10.0.0.5", 2200)
    names = (f"{tmp_path}/one", f"{tmp_path}/root-alpha")
    assert found.keys == UserKeys(names, whole_agent=False)


def test_an_identity_of_the_remotes_file_is_the_only_one(tmp_path: Path) -> None:
    found = route(tmp_path, "IdentityFile /etc/hostname\n", identity=Path("/k"))
    assert found.keys == UserKeys(("/k",), whole_agent=False)


def options(argv: tuple[str, ...]) -> dict[str, str]:
    """The values of ssh's -o options."""
    words = list(argv)
    pairs = [words[at + 1] for at, word in enumerate(words) if word == "-o"]
    return dict(pair.split("=", 1) for pair in pairs)


def test_jump_hosts_are_always_checked_strictly(tmp_path: Path) -> None:
    found = route(
        tmp_path,
        "Host alpha\n ProxyJump me@gate:2200,[2001:db8::7]:23\n"
        "Host gate\n HostName 10.1.1.1\n StrictHostKeyChecking no\n"
        "Host *\n StrictHostKeyChecking accept-new\n",
    )
    assert [hop.name for hop in found.hops] == ["jump host gate", "jump host 2001:db8::7"]
    first, second = (hop.argv for hop in found.hops)
    assert second == found.proxy
    for argv in (first, second):
        given = options(argv)
        assert given["StrictHostKeyChecking"] == "yes" and given["BatchMode"] == "yes"
        # What ssh itself makes of it: the command line wins over the file.
        words = list(argv[1:])
        cut = words.index("-W")
        shown = subprocess.run(
            ["ssh", "-G", *words[:cut], *words[cut + 2 :]], capture_output=True, check=True
        ).stdout.decode()
        assert "stricthostkeychecking true" in shown or "stricthostkeychecking yes" in shown
        assert "proxyjump" not in shown
    assert options(first)["ProxyCommand"] == "none"
    assert shlex.split(options(second)["ProxyCommand"]) == list(first)
    assert first[first.index("-W") + 1] == "[2001:db8::7]:23"
    assert second[second.index("-W") + 1] == "[alpha]:22"
    assert first[first.index("-l") + 1 : first.index("-W")] == ("me", "-p", "2200")


def test_a_jump_of_the_remotes_file_goes_before_the_configurations(tmp_path: Path) -> None:
    config = "Host 127.0.0.1\n ProxyCommand other\nHost relay\n HostName r.example\n User me\n"
    found = route(tmp_path, config, "127.0.0.1", port=24_000, jump="relay,one@inner:2222")
    assert (found.host, found.port) == ("127.0.0.1", 24_000)
    assert [hop.name for hop in found.hops] == ["jump host relay", "jump host inner"]
    assert found.proxy[-3:] == ("[127.0.0.1]:24000", "--", "inner")
    words = shlex.join(found.proxy)
    assert "StrictHostKeyChecking=yes" in words and "other" not in words
    with pytest.raises(ConfigError, match=r"host a: 'a@b@c' is not a jump host"):
        route(tmp_path, "", jump="a@b@c")


def test_a_jump_host_may_need_one_itself(tmp_path: Path) -> None:
    found = route(tmp_path, "Host alpha\n ProxyJump gate\nHost gate\n ProxyJump outer\n")
    assert [hop.name for hop in found.hops] == ["jump host outer", "jump host gate"]


def test_a_proxy_command_is_run_as_it_is(tmp_path: Path) -> None:
    found = route(tmp_path, "Host alpha\n HostName h\n ProxyCommand nc -x 'a b' %h %p %%\n")
    assert found.proxy == ("/bin/sh", "-c", "exec nc -x 'a b' h 22 %")


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("Host alpha\n ProxyJump beta\nHost beta\n ProxyJump alpha\n", "in a circle"),
        ("Host alpha\n ProxyCommand nc %C\n", "%C .* is not supported"),
        ("Nonsense yes\n", "cannot be read for 'alpha'.*Bad configuration option"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, config: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        route(tmp_path, config)


@pytest.mark.parametrize("address", ["-oProxyCommand=touch x", "a b", "$(id)"])
def test_an_address_is_never_an_option_or_a_command(tmp_path: Path, address: str) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        route(tmp_path, "", address)


def test_percent_signs_survive_nesting() -> None:
    assert quote_command(("a", "b c", "%h")) == "a 'b c' %%h"


def test_what_openssh_reads_counts_as_it_reads_it(tmp_path: Path) -> None:
    """Include, Match exec, and what is read again for the canonical name."""
    (tmp_path / "more").write_text("Host alpha\n Port 2201\n")
    found = route(
        tmp_path,
        f"Include {tmp_path}/more\nCanonicalizeHostname yes\nCanonicalDomains nowhere.invalid\n"
        'Match host alpha exec "test -d /proc/self"\n HostName 10.0.0.7\n'
        'Match host alpha exec "false"\n HostName 10.0.0.8\n'
        "Match final originalhost alpha\n ProxyJump gate\n",
    )
    assert (found.host, found.port) == ("10.0.0.7", 2201)
    assert [hop.name for hop in found.hops] == ["jump host gate"]


def test_no_connection_of_the_users_own_is_shared(tmp_path: Path) -> None:
    """A master would outlive the command, and whoever started it chose how it checks keys."""
    shared = f"ControlMaster auto\nControlPath {tmp_path}/%C\nControlPersist yes\n"
    found = route(tmp_path, f"{shared}Host alpha\n ProxyJump gate\n")
    assert options(found.proxy)["ControlPath"] == "none"
    assert options(found.proxy)["ControlMaster"] == "no"
    assert route(tmp_path, shared).proxy == ()


@pytest.mark.parametrize(
    ("line", "agent"),
    [
        ("", None),
        ("IdentityAgent SSH_AUTH_SOCK", None),
        ("IdentityAgent none", ""),
        ("IdentityAgent /run/token/agent", "/run/token/agent"),
        ("IdentityAgent $TOKEN_AGENT", "/run/other"),
    ],
)
def test_the_agent_that_the_configuration_names(
    tmp_path: Path, line: str, agent: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN_AGENT", "/run/other")
    assert route(tmp_path, f"{line}\n").keys.agent == agent
