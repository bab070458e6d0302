# SPDX-License-Identifier: GPL-2.0-or-later
"""What goes wrong on this machine while a node builds: the results come first, the node stays."""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.integration.conftest import User
from tests.integration.faults import Command, wait_in
from tests.lab import srpm
from tests.lab.srpm import Recipe

pytestmark = pytest.mark.lab


@pytest.fixture(scope="session")
def short_srpm(lab_srpm: Callable[[Recipe], Path]) -> Path:
    """%build takes three seconds."""
    return lab_srpm(srpm.sleeping(3))


@contextmanager
def locked_journal(user: User) -> Iterator[sqlite3.Connection]:
    """Somebody has the journal to himself until he rolls back, or the block ends."""
    (path,) = (user.place / "state/mock-cloud").glob("leases.sqlite")
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield db


def check_ready(user: User, before: dict[str, object]) -> None:
    (row,) = user.nodes()
    assert (row["lease"], row["state"]) == (before["lease"], "ready")


def test_the_journal_is_locked_when_the_job_ends(
    mock: User, short_srpm: Path, tmp_path: Path
) -> None:
    """And what says that the results are there is printed when they are."""
    (before,) = mock.nodes()
    with Command(mock, "--resultdir", tmp_path, short_srpm) as run:
        wait_in(tmp_path / "build.log", "tick 1")
        with locked_journal(mock) as db:
            run.wait_for(f"Results and/or logs in: {tmp_path}")
            assert len(list(tmp_path.glob("*.rpm"))) == 2
            assert run.child.poll() is None
            db.execute("ROLLBACK")
            ended = run.ended().expect()
    assert "Done(" in ended.stderr and "WARNING" not in ended.stderr
    check_ready(mock, before)


@pytest.mark.slow
def test_the_journal_stays_locked(lone_mock: User, short_srpm: Path, tmp_path: Path) -> None:
    with Command(lone_mock, "--resultdir", tmp_path, short_srpm) as run:
        wait_in(tmp_path / "build.log", "tick 1")
        with locked_journal(lone_mock):
            ended = run.ended().expect()
    assert "the node is left as it is: the lease journal" in ended.stderr
    assert len(list(tmp_path.glob("*.rpm"))) == 2


@pytest.mark.slow
def test_the_resultdir_is_removed(mock: User, short_srpm: Path, tmp_path: Path) -> None:
    (before,) = mock.nodes()
    results = tmp_path / "results"
    with Command(mock, "--resultdir", results, short_srpm) as run:
        wait_in(results / "build.log", "tick 1")
        shutil.rmtree(results)
        run.ended().expect()
    assert len(list(results.glob("*.rpm"))) == 2
    ticks = re.findall(r"^tick \d+$", (results / "build.log").read_text(), re.MULTILINE)
    assert ticks == ["tick 1", "tick 2", "tick 3"]
    check_ready(mock, before)
