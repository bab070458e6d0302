# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds through a real hub and real builders, with the launcher at /usr/bin/mock."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab import srpm
from tests.real_koji.system import MAXJOBS, RealKoji

pytestmark = [pytest.mark.koji, pytest.mark.lab]


def test_builds_after_each_other_share_one_node(koji: RealKoji, plain_srpm: Path) -> None:
    """Each is two tasks with a chroot of their own, of a source package and of packages."""
    koji.only("b1.lab")
    before = koji.launched()
    for _ in range(3):
        koji.expect(koji.build(plain_srpm, "--scratch"))
    assert koji.launched() - before == 1
    (row,) = koji.nodes("b1.lab")
    assert (row["state"], row["holder_pid"]) == ("ready", 0)


@dataclass(frozen=True)
class Several:
    """Scratch builds and one from a repository, all submitted at once; `nodes` they took."""

    scratch: list[int]
    real: int
    nodes: int


@pytest.fixture(scope="module")
def several(running: RealKoji, plain_srpm: Path) -> Several:
    running.release()
    running.only("b1.lab")
    url = running.make_repository(srpm.toy("toy-scm", preamble="BuildArch: noarch\n"))
    before = running.launched()
    real = running.build(url)
    scratch = [running.build(plain_srpm, "--scratch") for _ in range(5)]
    running.expect(real, *scratch)
    return Several(scratch, real, running.launched() - before)


def test_builds_at_once_use_the_nodes_that_tasks_at_once_need(several: Several) -> None:
    # A host's capacity is 2, and a task weighs 1.5: two at once.
    assert several.nodes <= 2 < MAXJOBS


def test_a_build_has_every_call_of_its_chroot_in_its_logs(several: Several, koji: RealKoji) -> None:
    logs = koji.logs(koji.child(several.scratch[-1], "buildArch")["id"])
    assert {"build.log", "root.log", "state.log", "mock_output.log"} <= logs.keys()
    verdicts = logs["remote_attestation.log"]
    calls = verdicts.count("verdict: trusted") + verdicts.count("not measured again")
    assert calls == 3  # --init, the command uname -r, --rebuild
    assert logs["remote_order.log"].count("started protocol") == 3, logs["remote_order.log"]


def test_a_build_from_a_repository(several: Several, koji: RealKoji) -> None:
    (build,) = koji.api.listBuilds({"__starstar": True, "taskID": several.real})
    assert build["nvr"].startswith("toy-scm-1-1")
    assert "toy-scm" in [one["name"] for one in koji.api.listTagged("lab")]
