# SPDX-License-Identifier: GPL-2.0-or-later
"""A key in a device that wants a touch: what asks for one, whatever goes through it afterwards."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from mock_cloud.cloud.hosts.route import find_jump
from mock_cloud.errors import ConfigError, HostKeyMismatch, TransportError
from mock_cloud.jump_master import share_jump, sharing_jumps
from mock_cloud.model import NodeAddress, UserKeys
from mock_cloud.remote import certified
from mock_cloud.remote.connect import connect, run_remotely
from mock_cloud.remote.trusted import trust
from mock_cloud.sshkeys import make_key_pair
from tests.component.remote_parts import make_proof, make_toolkit
from tests.lab.sshd import Sshd, SshdOptions
from tests.lab.touch_agent import TouchAgent
from tests.waiting import wait_for

SPARING = "MaxSessions 1\nMaxStartups 1\n"


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TouchAgent]:
    """The key of this user; what it signed before is not known to this test."""
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    monkeypatch.setattr(certified, "_made", {})
    with TouchAgent(tmp_path / "agent") as made:
        yield made


def certifying(login: str) -> UserKeys:
    return UserKeys(certifies=login)


@pytest.mark.parametrize("extra", ["", SPARING])
def test_a_touch_a_connection(tmp_path: Path, device: TouchAgent, extra: str) -> None:
    with Sshd(tmp_path / "sshd", SshdOptions(extra)) as sshd:
        (tmp_path / "sshd/authorized_keys").write_text(f"{device.public}\n")
        with closing(connect(sshd.address, UserKeys(), deadline_s=20)) as node:
            node.start_agent(make_toolkit(tmp_path / "node"))
            channel = trust(node, make_proof(node.host_key))
            asked: list[str] = []

            def serve(stream: object) -> None:
                asked.append(str(stream))
                stream.close()  # type: ignore[attr-defined]

            with closing(channel), closing(channel.forward(serve)) as door:
                for _ in range(3):
                    with socket.create_connection(("127.0.0.1", door.port), 20) as one:
                        assert one.recv(1) == b""
            assert len(asked) == 3 and device.touched == 1


def ask(address: NodeAddress, keys: UserKeys) -> bytes:
    said, _ = run_remotely(
        address, keys, "echo here", stdin=b"", timeout_s=20, output_max_bytes=100
    )
    return said


def test_a_touch_a_command_where_the_key_may_certify(tmp_path: Path, device: TouchAgent) -> None:
    """Several logins, and repositories by one of them: the certificate allows a forward."""
    with Sshd(tmp_path / "sshd", SshdOptions("MaxSessions 1")) as sshd:
        (tmp_path / "sshd/authorized_keys").write_text(f"cert-authority {device.public}\n")
        keys = certifying(sshd.address.user)
        for _ in range(3):
            assert ask(sshd.address, keys) == b"here\n"
        with closing(connect(sshd.address, keys, deadline_s=20)) as node:
            node.start_agent(make_toolkit(tmp_path / "node"))
            channel = trust(node, make_proof(node.host_key))
            with closing(channel), closing(channel.forward(lambda stream: stream.close())):
                pass
        assert device.touched == 1
        wrong = replace(sshd.address, host_key=make_key_pair().public)
        with pytest.raises(HostKeyMismatch):
            connect(wrong, keys, deadline_s=20)
        assert "ID mock-cloud" in sshd.log


@pytest.mark.parametrize("line", ["", 'cert-authority,principals="somebody" '])
def test_a_certificate_is_taken_only_where_its_owner_says_so(
    tmp_path: Path, device: TouchAgent, line: str
) -> None:
    """A key that may log in itself certifies nobody; nor does one that is for somebody else."""
    with Sshd(tmp_path / "sshd") as sshd:
        (tmp_path / "sshd/authorized_keys").write_text(f"{line}{device.public}\n")
        with pytest.raises(TransportError, match="a certificate by sk-ssh-ed25519"):
            ask(sshd.address, certifying(sshd.address.user))
        assert device.touched == 1


def test_a_certificate_is_for_one_login_and_a_while(tmp_path: Path, device: TouchAgent) -> None:
    """As ssh-keygen reads it: who, until when, and nothing beyond a forward."""
    keys = certifying("somebody")
    with Sshd(tmp_path / "sshd") as sshd:
        (tmp_path / "sshd/authorized_keys").write_text(f"cert-authority {device.public}\n")
        with pytest.raises(TransportError):
            ask(sshd.address, keys)
    ((_, key),) = certified._made.values()
    (tmp_path / "c.pub").write_text(f"{key.public_blob.key_type} {_base64(key)}\n")
    shown = subprocess.run(
        ["ssh-keygen", "-L", "-f", str(tmp_path / "c.pub")], check=True, capture_output=True,
        text=True,
    ).stdout  # fmt: skip
    words = shown.split()
    assert words[words.index("Principals:") + 1] == "somebody"
    assert words[words.index("Extensions:") + 1 :] == ["permit-port-forwarding"]
    assert "Critical Options: (none)" in shown and "user certificate" in shown


def _base64(key: object) -> str:
    return base64.b64encode(key.public_blob.key_blob).decode()  # type: ignore[attr-defined]


def test_a_device_that_nobody_touches_is_named(tmp_path: Path, device: TouchAgent) -> None:
    device.has_user = False
    with (
        Sshd(tmp_path / "sshd") as sshd,
        pytest.raises(ConfigError, match="the SSH agent signed no certificate"),
    ):
        ask(sshd.address, certifying("root"))


def jumping(place: Path, gate: Sshd, node: Sshd, monkeypatch: pytest.MonkeyPatch) -> NodeAddress:
    """`node` by way of `gate`, which ssh knows."""
    config = place / "config"
    known = place / "known_hosts"
    known.write_text(f"[127.0.0.1]:{gate.port} {gate.host_key.public}\n")
    config.write_text(
        f"Host gate\n HostName 127.0.0.1\n Port {gate.port}\n User {gate.address.user}\n"
        f" UserKnownHostsFile {known}\n"
    )
    monkeypatch.setattr("mock_cloud.cloud.hosts.route._config_words", lambda _: ("-F", str(config)))
    way = find_jump("gate", "127.0.0.1", node.port)
    return replace(node.address, proxy=way)


def test_a_touch_a_jump_host_for_all_that_a_command_asks(
    tmp_path: Path, device: TouchAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        Sshd(tmp_path / "gate", SshdOptions(SPARING)) as gate,
        Sshd(tmp_path / "node") as node,
    ):
        restrict = 'restrict,command="/bin/false",port-forwarding '
        (tmp_path / "gate/authorized_keys").write_text(f"{restrict}{device.public}\n")
        address = jumping(tmp_path, gate, node, monkeypatch)
        lease_key = node.client_key.private
        with sharing_jumps():
            first = connect(address, lease_key, deadline_s=20)
            with closing(first), closing(connect(address, lease_key, deadline_s=20)) as second:
                for one in (first, second):
                    one.start_agent(make_toolkit(tmp_path / "node-files"))
            connect(address, lease_key, deadline_s=20).close()
            assert device.touched == 1
            # The way is shared, trust is not: the node's key is pinned for each connection.
            with pytest.raises(HostKeyMismatch):
                wrong = replace(address, host_key=make_key_pair().public)
                connect(wrong, lease_key, deadline_s=20)
            assert device.touched == 1
            socket_path = _socket_of(share_jump(address.proxy, 20))
            assert socket_path.is_socket() and socket_path.parent.stat().st_mode & 0o077 == 0
        wait_for(lambda: not socket_path.parent.exists())
        assert share_jump(address.proxy, 20) == address.proxy
        connect(address, lease_key, deadline_s=20).close()
        assert device.touched == 2  # another command


def _socket_of(way: tuple[str, ...]) -> Path:
    (found,) = (word.partition("=")[2] for word in way if word.startswith("ControlPath="))
    return Path(found)


def test_a_jump_host_that_is_not_the_known_one_is_refused_still(
    tmp_path: Path, device: TouchAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Sshd(tmp_path / "gate") as gate, Sshd(tmp_path / "node") as node:
        (tmp_path / "gate/authorized_keys").write_text(f"{device.public}\n")
        address = jumping(tmp_path, gate, node, monkeypatch)
        (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{gate.port} {make_key_pair().public}\n")
        with (
            sharing_jumps(),
            pytest.raises(TransportError, match="Host key verification failed"),
        ):
            run_remotely(
                address, node.client_key.private, "true", stdin=b"", timeout_s=60,
                output_max_bytes=100,
            )  # fmt: skip
        assert device.touched == 0


def test_a_jump_host_that_hangs_up_is_called_again(
    tmp_path: Path, device: TouchAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sharing_jumps(), Sshd(tmp_path / "gate") as gate, Sshd(tmp_path / "node") as node:
        (tmp_path / "gate/authorized_keys").write_text(f"{device.public}\n")
        address = jumping(tmp_path, gate, node, monkeypatch)
        connect(address, node.client_key.private, deadline_s=20).close()
        shared = _socket_of(share_jump(address.proxy, 20))
        for pid in gate.session_pids():
            os.kill(pid, signal.SIGTERM)
        wait_for(lambda: not shared.exists())
        connect(address, node.client_key.private, deadline_s=20).close()
        assert device.touched == 2


_COMMAND = """
import json, sys, time
from mock_cloud.jump_master import share_jump, sharing_jumps
with sharing_jumps():
    print(json.dumps(share_jump(json.loads(sys.argv[1]), 60)), flush=True)
    time.sleep(600)
"""


def test_a_master_ends_with_its_command_however_that_ends(
    tmp_path: Path, device: TouchAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Sshd(tmp_path / "gate") as gate, Sshd(tmp_path / "node") as node:
        (tmp_path / "gate/authorized_keys").write_text(f"{device.public}\n")
        way = jumping(tmp_path, gate, node, monkeypatch).proxy
        argv = [sys.executable, "-c", _COMMAND, json.dumps(way)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as command:
            assert command.stdout is not None
            shared = _socket_of(tuple(json.loads(command.stdout.readline())))
            assert shared.is_socket() and gate.session_pids()
            command.kill()
        wait_for(lambda: not shared.parent.exists() and not gate.session_pids())
        assert device.touched == 1
