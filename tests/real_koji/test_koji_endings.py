# SPDX-License-Identifier: GPL-2.0-or-later
"""What ends otherwise than well or than expected: tasks, builders, configurations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.faults import family
from tests.lab import srpm
from tests.lab.srpm import Recipe
from tests.real_koji.builders import Builder
from tests.real_koji.system import VICTIM, RealKoji

pytestmark = [pytest.mark.koji, pytest.mark.lab]
MakeSrpm = Callable[[Recipe], Path]


def test_an_error_before_anything_is_leased_reaches_the_task(
    koji: RealKoji, plain_srpm: Path
) -> None:
    koji.only("b1.lab")
    koji.edit("b1.lab", "s/^region = /regoin = /")
    try:
        task = koji.build(plain_srpm, "--scratch")
        assert koji.wait(task) == ["FAILED"]
    finally:
        koji.edit("b1.lab", "s/^regoin = /region = /")
    failed = koji.child(task, "rebuildSRPM")["id"]
    assert "mock exited with status 3" in koji.error(failed)
    assert "regoin" in koji.logs(failed)["mock_output.log"], koji.logs(failed)


def test_a_refused_node_is_explained_to_who_owns_the_task(koji: RealKoji, plain_srpm: Path) -> None:
    koji.only("b1.lab")
    koji.tamper("b1.lab")
    try:
        task = koji.build(plain_srpm, "--scratch")
        assert koji.wait(task) == ["FAILED"]
    finally:
        koji.mend("b1.lab")
    failed = koji.child(task, "rebuildSRPM")["id"]
    assert "mock exited with status 77; see root.log for more information" in koji.error(failed)
    logs = koji.logs(failed)
    assert f"refused: file.digest: /{VICTIM}" in "".join(logs["root.log"].splitlines()[-2:])
    assert f"/{VICTIM}" in logs["remote_attestation.log"]
    assert "measured" in logs["remote_order.log"].splitlines()[-1]


def test_a_cancelled_build_leaves_nothing_that_works(koji: RealKoji, lab_srpm: MakeSrpm) -> None:
    koji.only("b1.lab")
    task = koji.build(lab_srpm(srpm.sleeping(1200)), "--scratch")
    koji.wait_for_log(task, "tick 3")
    koji.koji("cancel", str(task))
    assert koji.wait(task) == ["CANCELED"]
    koji.wait_for(lambda: not mocks(koji, "b1.lab"), lambda: str(mocks(koji, "b1.lab")))
    assert on_nodes(koji) == []
    (row,) = koji.nodes("b1.lab")
    assert (row["state"], row["holder_pid"]) == ("ready", 0)


def mocks(koji: RealKoji, builder: str) -> list[str]:
    """Command lines of mock in a builder's namespace."""
    found = koji.builders[builder].enter("ps", "-eo", "args", user="root").stdout.splitlines()
    return [line for line in found if "/usr/bin/mock" in line]


def on_nodes(koji: RealKoji) -> list[str]:
    """Command lines of builds on the cloud's machines."""
    inits = [machine.init_pid for machine in koji.cloud.nodes() if machine.init_pid]
    commands = [command for init in inits for _, command in family(init).values()]
    return [command for command in commands if "rpmbuild" in command or "tick" in command]


def test_a_warm_node_is_known_to_a_builder_with_other_file_systems(
    koji: RealKoji, spare: Builder, plain_srpm: Path
) -> None:
    """Its manifest lies in /etc/mock, which has another device number after each start."""
    koji.expect(koji.build(plain_srpm, "--scratch"))
    before = koji.launched()
    devices = [spare.enter("stat", "-c", "%d", "/etc/mock/keys").stdout]
    spare.stop()
    spare.start()
    koji.expect(koji.build(plain_srpm, "--scratch"))
    devices.append(spare.enter("stat", "-c", "%d", "/etc/mock/keys").stdout)
    assert koji.launched() == before, devices
