# SPDX-License-Identifier: GPL-2.0-or-later
"""A node whose sshd answers before cloud-init has finished, as systemd has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.ec2_remote import with_changed_user_data, write_user
from tests.lab.clouds.ec2 import Ec2Cloud
from tests.lab.clouds.faults import Fault

pytestmark = pytest.mark.lab

NOBODY = "http://127.0.0.1:9/"


def booting(cloud: Ec2Cloud, tries: int, **more: object) -> Fault:
    """The node's last stage calls somebody who is not there: 3 seconds between two tries."""
    cloud.early_sshd = True
    calls = {"url": NOBODY, "tries": tries, "post": ["hostname"]}
    stage = {"cloud_final_modules": ["phone-home", "final-message"], "phone_home": calls}
    return with_changed_user_data(cloud, {**stage, **more})


@pytest.mark.slow
def test_a_boot_that_ends_is_waited_for_and_all_is_measured_anew(
    ec2: Ec2Cloud, tmp_path: Path, cache: Path
) -> None:
    user = write_user(ec2, tmp_path, cache)
    ec2.faults.add(booting(ec2, tries=2), on="RunInstances")
    ended = user.cloud("attest", "ec2", "--configdir", user.config.path).expect()
    assert "waiting for the end of the node's boot: there is pid" in ended.stderr
    assert "verdict: trusted" in ended.stdout
    verdicts = sorted((tmp_path / "state/mock-cloud/verdicts").glob("*.verdict.json"))
    texts = [path.read_text() for path in verdicts]
    assert [text for text in texts if '"process.unknown"' in text]
    assert sum('"trusted":true' in text for text in texts) == 1
    user.cloud("release", "--all", "--configdir", user.config.path).expect()
    assert ec2.listing().is_empty


@pytest.mark.slow
def test_a_node_that_stays_like_that_is_refused_at_the_deadline(
    ec2: Ec2Cloud, tmp_path: Path, cache: Path, plain_srpm: Path
) -> None:
    user = write_user(ec2, tmp_path, cache, "boot_timeout = 8\n")
    ec2.faults.add(booting(ec2, tries=1000), on="RunInstances")
    ended = user.mock(plain_srpm).expect(77)
    assert "waiting for the end of the node's boot" in ended.stderr
    assert "refused: process.unknown" in ended.stderr
    assert ec2.listing().is_empty


@pytest.mark.slow
def test_any_other_reason_refuses_at_once(
    ec2: Ec2Cloud, tmp_path: Path, cache: Path, plain_srpm: Path
) -> None:
    user = write_user(ec2, tmp_path, cache)
    changed = {"bootcmd": ["echo '# one line more' >> /etc/profile"]}
    ec2.faults.add(booting(ec2, tries=1000, **changed), on="RunInstances")
    ended = user.mock(plain_srpm).expect(77)
    assert "refused: file.digest: /etc/profile" in ended.stderr
    assert "refused: process.unknown" in ended.stderr
    assert "waiting for" not in ended.stderr
    assert ec2.listing().is_empty
