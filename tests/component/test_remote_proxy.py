# SPDX-License-Identifier: GPL-2.0-or-later
"""Reaching a real sshd through a command, and with the user's own keys."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mock_cloud.cloud.hosts.client import Free, ask
from mock_cloud.errors import ConfigError, ConnectionLost, HostKeyMismatch, TransportError
from mock_cloud.model import HostKey, NodeAddress, UserKeys
from mock_cloud.remote.connect import connect
from mock_cloud.sshkeys import make_key_pair
from tests.component.remote_parts import open_descriptors, own_threads
from tests.lab import leaks
from tests.lab.sshd import Sshd, SshdOptions
from tests.waiting import wait_for

# Carries bytes both ways, as `ssh -W` and nc(1) do.
CARRY = """
import socket, sys, threading, os
where = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
def down():
    while data := where.recv(65536): os.write(1, data)
    os._exit(0)
threading.Thread(target=down, daemon=True).start()
while data := os.read(0, 65536): where.sendall(data)
"""


def through(sshd: Sshd, *proxy: str) -> NodeAddress:
    proxy = proxy or (sys.executable, "-c", CARRY, str(sshd.port))
    # Nothing listens there: only the command leads to it.
    return replace(sshd.address, port=1, proxy=proxy)


@pytest.fixture
def nothing_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    leaks.adopt_orphans()
    before = leaks.snapshot(tmp_path_factory.getbasetemp())  # other runs mount as well
    threads, descriptors = own_threads(), open_descriptors()
    yield
    assert leaks.find_leaks(before) == []
    wait_for(lambda: own_threads() <= threads)
    wait_for(lambda: open_descriptors() <= descriptors)


def test_another_key_behind_a_proxy_is_refused(sshd: Sshd, nothing_left: None) -> None:
    address = replace(through(sshd), host_key=make_key_pair().public)
    with pytest.raises(HostKeyMismatch):
        connect(address, sshd.client_key.private, deadline_s=20)
    assert "publickey" not in sshd.log


def test_a_proxy_carries_the_connection_and_ends_with_it(sshd: Sshd, nothing_left: None) -> None:
    node = connect(through(sshd), sshd.client_key.private, deadline_s=20)
    assert node.host_key == sshd.host_key.public
    node.close()


def test_a_proxy_that_says_why_is_quoted(sshd: Sshd, nothing_left: None) -> None:
    address = through(sshd, "sh", "-c", r"printf '\033]0;no route to gate\n' >&2; exit 1")
    with pytest.raises(TransportError, match=r"\\x1b\]0;no route to gate") as caught:
        connect(address, sshd.client_key.private, deadline_s=0.5)
    assert "\x1b" not in caught.value.message


def test_a_proxy_that_does_not_exist(sshd: Sshd, nothing_left: None) -> None:
    with pytest.raises(TransportError, match="cannot connect: No such file"):
        connect(through(sshd, "/nowhere/nc"), sshd.client_key.private, deadline_s=0.3)


def test_a_proxy_that_hangs_is_killed_with_its_children(sshd: Sshd, nothing_left: None) -> None:
    address = through(sshd, "sh", "-c", "trap '' TERM; sleep 600 & wait; sleep 600")
    began = time.monotonic()
    with pytest.raises(TransportError, match="no SSH within"):
        connect(address, sshd.client_key.private, deadline_s=1.0)
    assert time.monotonic() - began < 300


def test_a_proxy_that_dies_is_a_lost_connection(sshd: Sshd, nothing_left: None) -> None:
    before = leaks.snapshot().processes
    node = connect(through(sshd), sshd.client_key.private, deadline_s=20)
    os.kill(_find_proxy(before), 9)
    with pytest.raises(ConnectionLost):
        node._link.run("true")
    node.close()


def _find_proxy(before: frozenset[int]) -> int:
    """The one process that carries bytes; a sibling may look like it between fork and exec."""
    deadline = time.monotonic() + 300
    while True:
        found = [pid for pid in leaks.snapshot().processes - before if _runs(pid, CARRY)]
        if len(found) == 1:
            return found[0]
        assert time.monotonic() < deadline, found


def _runs(pid: int, text: str) -> bool:
    try:
        return text.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


# The user's own keys


def make_key(path: Path, kind: str, passphrase: str = "") -> HostKey:
    program = shutil.which("ssh-keygen") or "ssh-keygen"
    subprocess.run([program, "-q", "-t", kind, "-N", passphrase, "-f", str(path)], check=True)
    return HostKey.parse(path.with_name(f"{path.name}.pub").read_text())


def allow(sshd: Sshd, *keys: HostKey) -> None:
    (sshd.directory / "authorized_keys").write_text("".join(f"{key}\n" for key in keys))


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A real ssh-agent without keys, which SSH_AUTH_SOCK names."""
    path = tmp_path / "agent"
    child = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
    wait_for(path.exists)
    yield path
    child.kill()
    child.wait()


def add_to_agent(key: Path, passphrase: str) -> None:
    """ssh-add asks a program for the passphrase where there is no terminal."""
    ask = key.with_name("ask")
    ask.write_text(f"#!/bin/sh\necho {passphrase}\n")
    ask.chmod(0o700)
    environment = {**os.environ, "SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force"}
    subprocess.run(["ssh-add", "-q", str(key)], check=True, env=environment)


def test_a_refused_key_fails_at_once_and_is_named(
    sshd: Sshd, tmp_path: Path, nothing_left: None
) -> None:
    for name in ("one", "two"):
        make_key(tmp_path / name, "ed25519")
    keys = UserKeys((str(tmp_path / "one"), str(tmp_path / "two")), whole_agent=False)
    began = time.monotonic()
    with pytest.raises(TransportError, match=r"/one, .*/two: refused for root") as caught:
        connect(sshd.address, keys, deadline_s=300)
    assert time.monotonic() - began < 200
    assert caught.value.hint and "authorized_keys" in caught.value.hint


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_keys_of_each_kind(sshd: Sshd, tmp_path: Path, kind: str) -> None:
    make_key(tmp_path / "other", "ed25519")
    allow(sshd, make_key(tmp_path / "mine", kind))
    keys = UserKeys((str(tmp_path / "other"), str(tmp_path / "mine")), whole_agent=False)
    connect(sshd.address, keys, deadline_s=10).close()


@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
def test_a_key_with_a_passphrase_needs_the_agent(
    sshd: Sshd, tmp_path: Path, agent: Path, nothing_left: None, kind: str
) -> None:
    allow(sshd, make_key(tmp_path / "mine", kind, "hush"))
    keys = UserKeys((str(tmp_path / "mine"),), whole_agent=False)
    with pytest.raises(ConfigError, match="has a passphrase and is not in the SSH agent"):
        connect(sshd.address, keys, deadline_s=10)
    add_to_agent(tmp_path / "mine", "hush")
    connect(sshd.address, keys, deadline_s=10).close()
    public = UserKeys((str(tmp_path / "mine.pub"),), whole_agent=False)
    connect(sshd.address, public, deadline_s=10).close()


def test_other_keys_of_the_agent_are_offered_only_if_wanted(
    sshd: Sshd, tmp_path: Path, agent: Path
) -> None:
    allow(sshd, make_key(tmp_path / "held", "ecdsa", "hush"))
    add_to_agent(tmp_path / "held", "hush")
    make_key(tmp_path / "mine", "ed25519")
    mine = UserKeys((str(tmp_path / "mine"),), whole_agent=False)
    with pytest.raises(TransportError, match=re.escape(f"{tmp_path}/mine: refused")):
        connect(sshd.address, mine, deadline_s=10)
    connect(sshd.address, replace(mine, whole_agent=True), deadline_s=10).close()


@pytest.mark.parametrize("path", ["/nowhere/key", "/etc/hostname"])
def test_what_is_no_key_is_named(shared_sshd: Sshd, path: str) -> None:
    with pytest.raises(ConfigError, match=f"no SSH key to log in with: {path}: "):
        connect(shared_sshd.address, UserKeys((path,), whole_agent=False), deadline_s=10)


def test_a_machine_with_an_ipv6_address_only(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with Sshd(tmp_path / "sshd", SshdOptions(f"ListenAddress [::1]:{port}")) as sshd:
        key = tmp_path / "key"
        key.touch(0o600)
        key.write_bytes(sshd.client_key.private.reveal())
        keys = UserKeys((str(key),), whole_agent=False)
        six = replace(sshd.address, host="::1", port=port, user_keys=keys)
        connect(six, keys, deadline_s=10).close()
        assert str(six) == f"root@[::1]:{port}"
        assert ask(six, "echo free") == Free()
        with pytest.raises(HostKeyMismatch):
            ask(replace(six, host_key=make_key_pair().public), "echo free")
