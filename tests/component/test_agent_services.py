# SPDX-License-Identifier: GPL-2.0-or-later
"""Services that would end by themselves are told to before a node is measured, and only those."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mock_cloud.agent import sshd
from tests.waiting import wait_for

Starting = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starting]:
    """Starts a program of its own file, with what else it is run through."""
    running: list[subprocess.Popen[bytes]] = []

    def start(name: str, *through: str) -> subprocess.Popen[bytes]:
        program = shutil.copy("/bin/sleep", tmp_path / name)
        running.append(subprocess.Popen([*through, program, "600"]))
        wait_for(lambda: sshd._executable(running[-1].pid) == str(program))
        return running[-1]

    yield start
    for one in running:
        one.kill()
        one.wait()


def test_they_end_and_others_stay(tmp_path: Path, start: Starting) -> None:
    passing, other = start("hostnamed"), start("another")
    sshd.end_services([str(tmp_path / "hostnamed")])
    assert passing.wait(timeout=20) == -signal.SIGTERM
    assert other.poll() is None


def test_one_that_does_not_end_stays(
    tmp_path: Path, start: Starting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sshd, "_ENDS_WITHIN_S", 0.2)
    stubborn = start("hostnamed", "env", "--ignore-signal=TERM")
    sshd.end_services([str(tmp_path / "hostnamed")])
    assert stubborn.poll() is None
