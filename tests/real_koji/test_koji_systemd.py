# SPDX-License-Identifier: GPL-2.0-or-later
"""A builder's kojid as a service of systemd, with Koji's unit and the drop-in of docs/koji.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab import srpm
from tests.lab.srpm import Recipe
from tests.real_koji import booted
from tests.real_koji.booted import BootedBuilder
from tests.real_koji.system import RealKoji

pytestmark = [pytest.mark.koji, pytest.mark.lab]
MakeSrpm = Callable[[Recipe], Path]


@pytest.fixture
def builder(koji: RealKoji) -> Iterator[BootedBuilder]:
    """A builder of the test's own, to which all tasks go."""
    missing = booted.find_missing()
    if missing:
        pytest.skip(f"no builder with systemd: {missing}")
    name = f"booted{len(koji.api.listHosts())}.lab"
    koji.add_hosts(name)
    builder = koji.start_builder(name, BootedBuilder)
    koji.only(name)
    yield builder
    koji.release()
    koji.koji("disable-host", name)
    koji.builders.pop(name).stop()


def test_a_service_that_is_stopped_for_good_leaves_no_node(
    koji: RealKoji, builder: BootedBuilder, plain_srpm: Path, lab_srpm: MakeSrpm
) -> None:
    """kojid ends its tasks when it is stopped, and the hub gives them to another builder."""
    koji.expect(koji.build(plain_srpm, "--scratch"))
    (idle,) = koji.nodes(builder.name)
    builder.systemctl("restart", "kojid")
    assert builder.runs()
    assert koji.nodes(builder.name) == []
    task = koji.build(lab_srpm(srpm.sleeping(1200)), "--scratch")
    koji.wait_for_log(task, "tick 2")
    (busy,) = koji.nodes(builder.name)
    assert busy["holder_pid"], (idle, busy)
    builder.systemctl("stop", "kojid")
    assert builder.systemctl("is-active", "kojid") in ("inactive", "failed")
    assert koji.nodes(builder.name) == [], builder.log.read_text()[-3000:]
    koji.wait_for(lambda: koji.cloud.nodes() == (), lambda: str(koji.cloud.nodes()))
    koji.koji("cancel", str(task))


def test_a_service_that_crashes_leaves_no_node(
    koji: RealKoji, builder: BootedBuilder, lab_srpm: MakeSrpm
) -> None:
    """systemd ends the tasks of a kojid that was killed, and starts it again."""
    task = koji.build(lab_srpm(srpm.sleeping(1200)), "--scratch")
    koji.wait_for_log(task, "tick 2")
    (busy,) = koji.nodes(builder.name)
    assert busy["holder_pid"]
    koji.koji("disable-host", builder.name)  # the task is not begun anew
    builder.systemctl("kill", "--kill-whom=main", "--signal=KILL", "kojid")
    koji.wait_for(
        lambda: builder.systemctl("show", "-P", "NRestarts", "kojid") == "1" and builder.runs(),
        lambda: builder.systemctl("status", "kojid"),
    )
    assert koji.nodes(builder.name) == [], builder.log.read_text()[-3000:]
    koji.wait_for(lambda: koji.cloud.nodes() == (), lambda: str(koji.cloud.nodes()))
    koji.koji("cancel", str(task))
