# SPDX-License-Identifier: GPL-2.0-or-later
"""Fault 25: a spot node is taken back by its cloud in the middle of a build."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.ec2_remote import write_user
from tests.integration.faults import Command
from tests.lab.clouds.ec2 import Ec2Cloud

pytestmark = pytest.mark.lab

SPOT = 'market = "spot-first"\n\n[build]\nretries = 1\n\n[lease]\nidle_ttl = 0\n'
CODE, TEXT = "Server.SpotInstanceTermination", "Instance terminated by Spot"


@pytest.mark.slow
@pytest.mark.fault(25)
def test_the_logs_stay_the_reason_is_told_and_the_next_node_is_on_demand(
    ec2: Ec2Cloud, tmp_path: Path, cache: Path, plain_srpm: Path
) -> None:
    user = write_user(ec2, tmp_path, cache, SPOT)
    results = tmp_path / "results"
    with Command(user, "--resultdir", results, plain_srpm) as run:
        run.wait_for("Start: installing minimal buildroot")
        (spot,) = ec2.listing().instances
        ec2.end(spot, CODE, TEXT)
        ended = run.ended(120).expect()
    assert f"the cloud ended the node: {CODE}: {TEXT}" in ended.stderr
    assert "another one is tried, the last" in ended.stderr
    nodes = [line for line in ended.stderr.splitlines() if "ec2: new node" in line]
    assert [line.endswith(" spot)") for line in nodes] == [True, False]
    log = (results / "root.log").read_text(errors="replace")
    before, _, after = log.partition("mock-cloud: attempt 1 ended: ")
    assert before.strip() and after.startswith("root@") and CODE in after.splitlines()[0]
    assert list(results.glob("*.src.rpm"))
    assert ec2.calls.count("RunInstances") == 2
    assert ec2.listing().is_empty
