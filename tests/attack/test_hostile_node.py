# SPDX-License-Identifier: GPL-2.0-or-later
"""The hostile node itself: where it changes nothing, nothing changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from mock_cloud.attest.evidence import parse_evidence
from mock_cloud.remote.trusted import trust
from mock_cloud.wire.frames import FrameHeader
from tests.attack.conftest import Between
from tests.attack.hostile_node import Mode, Rewriting
from tests.component.conftest import Connect
from tests.component.remote_parts import LocalToolkit, make_proof
from tests.integration.conftest import User
from tests.lab.sshd import Sshd


def test_an_honest_relay_is_not_noticed(
    shared_sshd: Sshd, connecting: Connect, toolkit: LocalToolkit, between: Between
) -> None:
    relay = between(shared_sshd, Mode())
    node = connecting(port=relay.address[1])
    node.start_agent(toolkit)
    assert node.hello("n").toolkit == toolkit.digest
    skip = [str(path) for path in Path("/").iterdir() if path.is_dir()]
    assert parse_evidence(node.measure("n", skip=skip)).nonce == "n"
    channel = trust(node, make_proof(node.host_key))
    assert channel.ping() > 0
    node.close()
    assert [header["op"] for header in relay.mode.requests][-2:] == ["trust", "ping"]


@pytest.mark.slow
def test_a_whole_build_through_a_relay_that_changes_an_answer(
    lone_mock: User, plain_srpm: Path, between: Between, tmp_path: Path
) -> None:
    changed: list[FrameHeader] = []

    def rewrite(header: FrameHeader, body: bytes) -> tuple[FrameHeader, bytes]:
        changed.append(header)
        return header, body

    relay = between(lone_mock, Rewriting("results", rewrite))
    lone_mock.mock("--resultdir", tmp_path / "results", plain_srpm).expect()
    assert changed
    assert {"measure", "trust", "job_start", "get"} <= {one["op"] for one in relay.mode.requests}
    assert list((tmp_path / "results").glob("*.noarch.rpm"))
