# SPDX-License-Identifier: GPL-2.0-or-later
"""A command stops when the process that leads its group, kojid's task, is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.waiting import wait_for

COMMAND = """
import os, signal, sys, time
from pathlib import Path
from mock_cloud.koji.task_process import stopped_with_task

def stop(*_):
    Path("stopped").touch()
    sys.exit()

signal.signal(signal.SIGINT, stop)
with stopped_with_task():
    Path("began").write_text(str(os.getpid()))
    time.sleep(600)
"""
# As kojid's task starts mock: in the task's group. The task then waits.
TASK = """
import os, subprocess, sys, time
os.setpgrp()
subprocess.Popen([sys.executable, "-c", sys.argv[1]], start_new_session=sys.argv[2] == "alone")
time.sleep(600)
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    yield from started(tmp_path, "in the group")


def started(place: Path, way: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    task = subprocess.Popen([sys.executable, "-c", TASK, COMMAND, way], cwd=place)
    wait_for(lambda: (place / "began").exists() and (place / "began").read_text())
    pid = int((place / "began").read_text())
    try:
        yield task, pid
    finally:
        task.kill()
        task.wait()
        if not (place / "stopped").exists():
            os.kill(pid, signal.SIGKILL)


def test_a_task_that_ends_by_itself_takes_its_command_along(
    start: tuple[subprocess.Popen[bytes], int], tmp_path: Path
) -> None:
    task, _ = start
    assert not (tmp_path / "stopped").exists()
    task.kill()
    task.wait()
    wait_for((tmp_path / "stopped").exists)


def test_who_leads_a_group_belongs_to_no_task(tmp_path: Path) -> None:
    for task, pid in started(tmp_path, "alone"):
        assert threads(pid) == 1  # nobody watches
        task.kill()
        task.wait()


def threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))
