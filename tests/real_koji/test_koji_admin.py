# SPDX-License-Identifier: GPL-2.0-or-later
"""What a builder's administrator does and sees, as docs/koji.md says it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab import srpm
from tests.lab.srpm import Recipe
from tests.real_koji.builders import Builder
from tests.real_koji.system import RealKoji

pytestmark = [pytest.mark.koji, pytest.mark.lab]
MakeSrpm = Callable[[Recipe], Path]


def test_nodes_are_kojibuilders_and_stay_while_tasks_work_on_them(
    koji: RealKoji, lab_srpm: MakeSrpm
) -> None:
    koji.only("b1.lab")
    builder = koji.builders["b1.lab"]
    task = koji.build(lab_srpm(srpm.sleeping(60)), "--scratch")
    koji.wait_for_log(task, "tick 2")
    (row,) = koji.nodes("b1.lab")
    assert row["holder_pid"]
    seen_by_root = builder.enter("mock-cloud", "nodes", "--json", user="root")
    assert json.loads(seen_by_root.stdout) == []
    checked = builder.enter("mock-cloud", "doctor", "ec2")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    builder.enter("mock-cloud", "release", "--all")
    koji.expect(task)  # its node was left to it
    assert len(koji.nodes("b1.lab")) == 1
    for words in (("release", "--all"), ("reap", "--all")):
        done = builder.enter("mock-cloud", *words)
        assert done.returncode == 0, done.stderr
    assert koji.nodes("b1.lab") == []
    koji.wait_for(lambda: koji.cloud.nodes() == (), lambda: str(koji.cloud.nodes()))


def test_what_a_crash_leaves_is_kept_and_given_back(
    koji: RealKoji, spare: Builder, lab_srpm: MakeSrpm
) -> None:
    """All processes of the builder are killed at once, and it comes up again."""
    task = koji.build(lab_srpm(srpm.sleeping(1200)), "--scratch")
    koji.wait_for_log(task, "tick 2")
    spare.stop()
    koji.koji("cancel", str(task))
    spare.start()
    assert len(koji.nodes(spare.name)) == 1
    done = spare.enter("mock-cloud", "release", "--all")
    assert done.returncode == 0, done.stderr
    assert koji.nodes(spare.name) == []
    koji.wait_for(lambda: koji.cloud.nodes() == (), lambda: str(koji.cloud.nodes()))
