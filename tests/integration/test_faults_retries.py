# SPDX-License-Identifier: GPL-2.0-or-later
"""A node that dies under a build is replaced, and a remote without nodes by the next one."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.integration.conftest import User
from tests.integration.faults import Command, node_facts, write_remote

pytestmark = pytest.mark.lab

_TOO_DEAR = """\
[remote]
provider = "ec2"
fallback = ["local"]
[ec2]
region = "nowhere-1"
endpoint = "http://127.0.0.1:9"
access_key_id = "AKIANOBODY"
secret_access_key = "nobody's"
[node.x86_64]
images = ["ami-1"]
sizes = ["huge"]
price_per_hour = 100
[budget]
per_day = 0.01
"""


def test_a_build_goes_on_elsewhere(lone_mock: User, plain_srpm: Path, tmp_path: Path) -> None:
    write_remote(lone_mock, "local", build__retries="1")
    results = tmp_path / "results"
    with Command(lone_mock, "--resultdir", results, plain_srpm) as run:
        run.wait_for("Start: installing minimal buildroot")
        (row,) = lone_mock.nodes()
        inode = (results / "root.log").stat().st_ino
        init = node_facts(lone_mock).init
        assert init is not None
        os.kill(init.pid, signal.SIGKILL)
        ended = run.ended(120).expect()
    assert "another one is tried, the last" in ended.stderr
    (after,) = lone_mock.nodes()
    assert after["state"] == "ready" and after["lease"] != row["lease"]
    log = (results / "root.log").read_text(errors="replace")
    assert log.count("mock-cloud: attempt 1 ended: ") == 1
    assert (results / "root.log").stat().st_ino == inode
    assert [path.name for path in results.glob("*.x86_64.rpm")] or list(results.glob("*noarch.rpm"))
    assert not list(results.glob(".mock-cloud*"))


def test_a_spent_budget_turns_to_the_fallback(lone_mock: User) -> None:
    text = lone_mock.config.remote_file.read_text()
    dear = lone_mock.config.remote_file.with_name("dear.toml")
    dear.touch(mode=0o600)
    dear.write_text(_TOO_DEAR + text[text.index("[attest]") : text.index("[build]")])
    ended = lone_mock.mock("--remote", "dear", "--clean").expect()
    assert "0.01 USD a day has no room for a node at 100.00 USD an hour" in ended.stderr
    assert "remote local is tried in place of dear" in ended.stderr
    (row,) = lone_mock.nodes()
    assert row["remote"] == "local"
