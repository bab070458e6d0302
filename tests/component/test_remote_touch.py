# SPDX-License-Identifier: GPL-2.0-or-later
"""A key in a device that wants a touch: a connection asks for one, whatever goes through it."""

from __future__ import annotations

import socket
from contextlib import closing
from pathlib import Path

import pytest

from mock_cloud.model import UserKeys
from mock_cloud.remote.connect import connect
from mock_cloud.remote.trusted import trust
from tests.component.remote_parts import make_proof, make_toolkit
from tests.lab.sshd import Sshd, SshdOptions
from tests.lab.touch_agent import TouchAgent


@pytest.mark.parametrize("extra", ["", "MaxSessions 1\nMaxStartups 1\n"])
def test_a_touch_a_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: str) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    with Sshd(tmp_path / "sshd", SshdOptions(extra)) as sshd, TouchAgent(tmp_path / "agent") as key:
        (tmp_path / "sshd/authorized_keys").write_text(f"{key.public}\n")
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
            assert len(asked) == 3 and key.touched == 1
