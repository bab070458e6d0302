# SPDX-License-Identifier: GPL-2.0-or-later
"""ssh_config(5) as OpenSSH's own client goes by it, beside the way that is found from it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from mock_cloud.cloud.hosts.route import Route, find_jump, find_route
from mock_cloud.errors import ConfigError
from mock_cloud.process import run
from mock_cloud.remote.connect import connect
from mock_cloud.settings import HostSettings
from mock_cloud.sshkeys import make_key_pair
from tests.lab.sshd import Sshd
from tests.waiting import wait_for

HERE = "internal.example"
# A name that is only looked up here: its own /etc/hosts, and no other place to look.
_OWN_HOSTS = (
    'mount --bind "$0/hosts" /etc/hosts && mount --bind "$0/nsswitch.conf" /etc/nsswitch.conf'
    ' && exec "$@"'
)

CASES = {
    "Include": "Include {place}/more\nPort 2300\n",
    "Include of several, by a pattern": "Include {place}/part-*\n",
    "Include within a Host that is not meant": (
        "Host beta\n Include {place}/more\nHost *\n Port 2302\n"
    ),
    "Include within a Host that is": "Host alpha\n Include {place}/more\n",
    "Include of what is not there": "Include {place}/none\nPort 2301\n",
    "Match exec that is so": 'Match exec "test %h:%n:%r = alpha:alpha:root"\n Port 2401\n',
    "Match exec that is not": 'Match exec "test %h = beta"\n Port 2402\nMatch all\n Port 2403\n',
    "Match exec and host": (
        'Match host a* exec "true"\n HostName 10.0.0.9\n IdentityFile {place}/k\n'
    ),
    "Match final": "Match final\n Port 2404\nHost alpha\n Port 2405\n HostName 10.0.0.4\n",
    "CanonicalizeHostname": (
        f"CanonicalizeHostname yes\nCanonicalDomains {HERE}\n"
        f"Match canonical host alpha.{HERE}\n Port 2501\n IdentityFile {{place}}/k\n"
        f"Host alpha\n Port 2502\n"
    ),
    "CanonicalizeHostname, and a jump host": (
        f"CanonicalizeHostname always\nCanonicalDomains none.example {HERE}\n"
        f"Host *.{HERE}\n ProxyJump gate\nHost gate\n CanonicalizeHostname no\n HostName 10.0.0.1\n"
    ),
    "CanonicalizeHostname with dots enough": (
        f"CanonicalizeHostname yes\nCanonicalDomains {HERE}\nCanonicalizeMaxDots 0\n"
        f"Host alpha\n HostName a.b\nMatch canonical\n Port 2503\n"
    ),
    "CanonicalizeHostname that falls back": (
        "CanonicalizeHostname yes\nCanonicalDomains none.example\nMatch canonical\n Port 2504\n"
    ),
    "ControlMaster": "ControlMaster auto\nControlPath {place}/%C\nControlPersist yes\n",
}
CANONICAL = ("CanonicalizeHostname", "CanonicalizeHostname, and a jump host")


@pytest.fixture
def inside(tmp_path: Path) -> tuple[str, ...]:
    """The words that make a command see names that this test made up."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root, for a mount namespace")
    # Domains of the configuration are looked up with a dot at the end, as DNS has it.
    names = f"alpha.{HERE} alpha.{HERE}."
    (tmp_path / "hosts").write_text(f"127.0.0.1 localhost\n127.0.0.1 {names}\n")
    (tmp_path / "nsswitch.conf").write_text("hosts: files\n")
    return ("unshare", "--mount", "sh", "-c", _OWN_HOSTS, str(tmp_path))


def said_by_ssh(inside: tuple[str, ...], config: Path, name: str) -> Mapping[str, list[str]]:
    argv = [*inside, "ssh", "-F", str(config), "-l", "root", "-G", "--", name]
    found: dict[str, list[str]] = {}
    for line in run(argv, timeout_s=60).decode().splitlines():
        key, _, value = line.partition(" ")
        found.setdefault(key, []).append(value)
    return found


def found_by_us(inside: tuple[str, ...], config: Path, name: str) -> Route:
    """The same, where the names are known: `ssh -G` is run within."""
    key = make_key_pair().public
    host = HostSettings("a", name, "Alice", "x86_64", host_key=key, ssh_config=config)
    with pytest.MonkeyPatch.context() as patch:
        path = config.parent / "bin"
        path.mkdir(exist_ok=True)
        ssh = path / "ssh"
        quoted = " ".join(f"'{word}'" for word in inside)
        ssh.write_text(f'#!/bin/sh\nPATH={os.environ["PATH"]}; exec {quoted} ssh "$@"\n')
        ssh.chmod(0o755)
        patch.setenv("PATH", f"{path}:{os.environ['PATH']}")
        return find_route(host)


@pytest.mark.parametrize("case", sorted(CASES))
def test_a_way_is_what_ssh_says(tmp_path: Path, inside: tuple[str, ...], case: str) -> None:
    (tmp_path / "more").write_text("Host alpha\n HostName 10.0.0.5\n Port 2201\n")
    for number in (1, 2):
        (tmp_path / f"part-{number}").write_text(f"Port 220{number}\nIdentityFile {tmp_path}/k\n")
    (tmp_path / "k").touch()
    config = tmp_path / "config"
    config.write_text(CASES[case].format(place=tmp_path))
    said, found = said_by_ssh(inside, config, "alpha"), found_by_us(inside, config, "alpha")
    assert found.host == said["hostname"][0] and found.port == int(said["port"][0])
    own = str(tmp_path / "k")
    assert (own in found.keys.files) == (own in said["identityfile"])
    assert [hop.name for hop in found.hops] == [
        f"jump host {name}" for name in said.get("proxyjump", []) if name != "none"
    ]
    assert (found.host == f"alpha.{HERE}") == (case in CANONICAL)
    # The case is one: what ssh says is not what it says of an empty file.
    plain = tmp_path / "plain"
    plain.touch()
    assert said != said_by_ssh(inside, plain, "alpha")


def test_a_name_that_must_be_found_and_is_not(tmp_path: Path, inside: tuple[str, ...]) -> None:
    config = tmp_path / "config"
    config.write_text(
        "CanonicalizeHostname yes\nCanonicalDomains none.example\nCanonicalizeFallbackLocal no\n"
    )
    argv = [*inside, "ssh", "-F", str(config), "-l", "root", "-G", "--", "alpha"]
    ended = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert ended.returncode == 255
    with pytest.raises(ConfigError) as refused:
        found_by_us(inside, config, "alpha")
    assert ended.stderr.strip() in str(refused.value)


def test_ssh_and_we_log_in_at_the_same_place(tmp_path: Path, inside: tuple[str, ...]) -> None:
    """By a short name, through what is included, under a condition that runs a program."""
    with Sshd(tmp_path / "sshd") as sshd:
        identity = tmp_path / "k"
        identity.touch(0o600)
        identity.write_bytes(sshd.client_key.private.reveal())
        known = tmp_path / "known_hosts"
        known.write_text(f"[alpha.{HERE}]:{sshd.port} {sshd.host_key.public}\n")
        (tmp_path / "more").write_text(
            f'Match canonical exec "test %n = alpha"\n Port {sshd.port}\n IdentityFile {identity}\n'
        )
        config = tmp_path / "config"
        config.write_text(
            f"CanonicalizeHostname yes\nCanonicalDomains {HERE}\nInclude {tmp_path}/more\n"
            f"UserKnownHostsFile {known}\nBatchMode yes\nUser root\n"
        )
        run([*inside, "ssh", "-F", str(config), "alpha", "true"], timeout_s=60)
        found = found_by_us(inside, config, "alpha")
        assert (found.host, found.port) == (f"alpha.{HERE}", sshd.port)
        address = sshd.address_with(sshd.host_key.public, found.port)
        connect(address, found.keys, deadline_s=20).close()
        wait_for(lambda: sshd.log.count("Accepted publickey for root") == 2)


def test_a_master_of_the_users_own_is_not_gone_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ssh does; here each login is one that was checked strictly. Said in docs/networks.md."""
    with Sshd(tmp_path / "gate") as gate, Sshd(tmp_path / "node") as node:
        identity = tmp_path / "k"
        identity.touch(0o600)
        identity.write_bytes(gate.client_key.private.reveal())
        known, config = tmp_path / "known_hosts", tmp_path / "config"
        known.write_text(f"[127.0.0.1]:{gate.port} {gate.host_key.public}\n")
        config.write_text(
            f"Host gate\n HostName 127.0.0.1\n Port {gate.port}\n User root\n"
            f" IdentityFile {identity}\n UserKnownHostsFile {known}\n"
            f" ControlPath {tmp_path}/master\n ControlMaster auto\n ControlPersist yes\n"
        )
        ssh = ["ssh", "-F", str(config)]
        run([*ssh, "-o", "BatchMode=yes", "-f", "-N", "gate"], timeout_s=60)
        try:
            run([*ssh, "gate", "true"], timeout_s=60)
            assert gate.log.count("Accepted publickey") == 1  # ssh itself went through it
            monkeypatch.setattr(
                "mock_cloud.cloud.hosts.route._config_words", lambda _: ("-F", str(config))
            )
            address = replace(node.address, proxy=find_jump("gate", "127.0.0.1", node.port))
            connect(address, node.client_key.private, deadline_s=20).close()
            assert gate.log.count("Accepted publickey") == 2
        finally:
            run([*ssh, "-O", "exit", "gate"], timeout_s=60)
