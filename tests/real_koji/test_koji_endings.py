# SPDX-License-Identifier: GPL-2.0-or-later
"""What ends otherwise than well or than expected: tasks, builders, configurations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.faults import family
from tests.lab import srpm
from tests.lab.srpm import Recipe
from tests.real_koji.system import RealKoji

pytestmark = [pytest.mark.koji, pytest.mark.lab]
MakeSrpm = Callable[[Recipe], Path]


def test_an_error_before_anything_is_leased_reaches_the_task(
    koji: RealKoji, plain_srpm: Path
) -> None:
    koji.only("b1.lab")
    remote = "/etc/mock/remotes.d/ec2.toml"
    builder = koji.builders["b1.lab"]
    text = builder.enter("cat", remote, user="root").stdout
    builder.enter("sed", "-i", "s/^region = .*/regoin = 1/", remote, user="root")
    try:
        task = koji.build(plain_srpm, "--scratch")
        assert koji.wait(task) == ["FAILED"]
    finally:
        builder.enter("sh", "-c", f'printf %s "$0" >{remote}', text, user="root")
    failed = koji.child(task, "rebuildSRPM")["id"]
    assert "mock exited with status 3" in koji.error(failed)
    assert "regoin" in koji.logs(failed)["mock_output.log"], koji.logs(failed)


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
