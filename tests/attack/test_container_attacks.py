# SPDX-License-Identifier: GPL-2.0-or-later
"""A node that is a container, offered as a machine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mock_cloud.steps.attest.attesting import Nature, own_kernel
from tests.attack.attacked_node import AttackedNode

pytest_plugins = ["tests.component.cloud_fixtures", "tests.attack.attacked_fixtures"]
FROM = "the host of a node"


def offer_as_machine(node: AttackedNode) -> None:
    """To the controller it is a machine of a cloud's, with a kernel as its manifest has it."""
    manifest = replace(node.known.manifest, kernel=own_kernel(), mounts=())
    node.known = replace(node.known, manifest=manifest)
    node.nature = Nature(shares_kernel=False)


@pytest.mark.attack(FROM, "the whole node in a container", "refused: `node.container`")
def test_a_container_is_no_machine(attacked: AttackedNode) -> None:
    attacked.attest()
    offer_as_machine(attacked)
    found = attacked.refusals()
    assert {"pid namespace", "ipc namespace", "uts namespace", "pid 2"} <= found["node.container"]


@pytest.mark.attack(
    FROM, "a container whose mount table is a file that lists no mount over /proc", "refused"
)
def test_a_mount_table_that_is_a_file(attacked: AttackedNode) -> None:
    attacked.do(
        "cp /proc/1/mountinfo /dev/shm/table; mount --bind /dev/shm/table /proc/1/mountinfo"
    )
    found = attacked.refusals()
    assert any("/proc/1" in subjects for subjects in found.values()), found
