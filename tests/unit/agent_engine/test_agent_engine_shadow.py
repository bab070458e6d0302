# SPDX-License-Identifier: GPL-2.0-or-later
"""dnf's logs on their way out of a chroot."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mock_cloud.agent.engine.context import Job
from mock_cloud.agent.engine.logs import Logs
from mock_cloud.agent.engine.shadow import ShadowPacker
from mock_cloud.wire.job_request import JobRequest, MockRun, ShadowOrder
from mock_cloud.wire.terminal_log import TerminalWriter

LOGS = "root/var/log"


@pytest.fixture
def shadow(tmp_path: Path) -> Iterator[ShadowPacker]:
    """Of a chroot in `tmp_path`/root that an earlier job left, with a log."""
    if os.geteuid() != 0:
        pytest.skip("needs root to work in a chroot")
    (tmp_path / LOGS).mkdir(parents=True)
    (tmp_path / LOGS / "dnf.log").write_text("of an earlier job\n")
    run = MockRun("r", "r", [], "{}", kit="kit")
    request = JobRequest("rebuild", mock=run, shadow=ShadowOrder("/chroot_tmpdir"))
    with (tmp_path / "terminal").open("wb") as terminal:
        logs = Logs(TerminalWriter(terminal.fileno()), 1, show_output=False)
        job = Job(str(tmp_path), "1", str(tmp_path), request, logs)
        made = ShadowPacker(job, str(tmp_path / "root"), 0)
        yield made
        made.close()


def copied(tmp_path: Path) -> str:
    path = tmp_path / "results/shadow/dnf.log"
    return path.read_text() if path.exists() else ""


@pytest.mark.parametrize("may_be_replaced", [False, True])
def test_a_log_goes_on_after_what_earlier_jobs_wrote(
    shadow: ShadowPacker, tmp_path: Path, may_be_replaced: bool
) -> None:
    shadow.begin(fresh=False, may_be_replaced=may_be_replaced)
    with (tmp_path / LOGS / "dnf.log").open("a") as log:
        log.write("new\n")
    shadow.poll(now=True)
    assert copied(tmp_path) == "new\n"


@pytest.mark.parametrize("lines", [1, 1000])
def test_a_log_of_a_chroot_that_mock_made_anew_is_copied_whole(
    shadow: ShadowPacker, tmp_path: Path, lines: int
) -> None:
    """Also where it has outgrown the earlier one before anybody looks."""
    shadow.begin(fresh=False, may_be_replaced=True)
    shadow.poll(now=True)
    shutil.rmtree(tmp_path / "root")
    (tmp_path / LOGS).mkdir(parents=True)
    log = tmp_path / LOGS / "dnf.log"
    log.write_text("new\n" * lines)
    shadow.poll(now=True)
    with log.open("a") as stream:
        stream.write("more\n")
    shadow.poll(now=True)
    assert copied(tmp_path) == "new\n" * lines + "more\n"
