# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud jobs --watch`: on a terminal, in a pipe, and with words of a node in it."""

from __future__ import annotations

import argparse
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mock_cloud.cli import jobs
from mock_cloud.cloud.jobs import JobPhase, JobRecord
from mock_cloud.cloud.journal import Journal
from mock_cloud.cloud.lease import Holder
from mock_cloud.console import Console
from tests.unit.terminals import TITLE, terminal
from tests.waiting import wait_for

NAME = "20261130-070000-0000000{}"
Ending = Callable[[Callable[[int], bool]], None]


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Journal:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(jobs, "_LOOK_S", 0.01)
    (tmp_path / "state/mock-cloud").mkdir(parents=True)
    return Journal(tmp_path / "state/mock-cloud")


def job(number: int, place: Path) -> JobRecord:
    """One that this process has begun, and that has no node yet."""
    argv = ("--rebuild", f"/src/hello-{number}-1.src.rpm")
    return JobRecord(
        NAME.format(number), "cloud", "", argv, "/", "rebuild", "small", str(place), (),
        fresh=True, started_unix=time.time(), holder=Holder.me(),
    )  # fmt: skip


@pytest.fixture
def ending(journal: Journal, tmp_path: Path) -> Iterator[Ending]:
    """Two jobs. Called with what tells whether so many running ones were shown, it ends each of
    them once they were, on a thread of its own."""
    both = [job(number, tmp_path) for number in (1, 2)]
    for one in both:
        journal.note_job(one)
    threads = []

    def end(is_shown: Callable[[int], bool]) -> None:
        for code, one in enumerate(both):
            wait_for(lambda running=2 - code: is_shown(running))  # type: ignore[misc]
            journal.note_job(replace(one, state=JobPhase.ENDED, ended_unix=time.time(), exit=code))

    def start(is_shown: Callable[[int], bool]) -> None:
        threads.append(threading.Thread(target=end, args=(is_shown,)))
        threads[0].start()

    yield start
    for thread in threads:
        thread.join()


def watch(console: Console, *, as_json: bool = False) -> int:
    return jobs.run(argparse.Namespace(all=False, json=as_json, watch=True), console)


def test_the_table_is_kept_up_to_date_and_stays(ending: Ending) -> None:
    with terminal(120) as screen:
        ending(lambda running: b"%d of 2 run" % running in screen.data)
        assert watch(Console(stream=screen.stream)) == 0
    head, first, second, total = screen.lines()
    assert head.split()[:4] == ["JOB", "WHAT", "STATE", "TIME"]
    assert first.split()[:4] == ["00000001", "hello-1-1", "on", "cloud"]
    assert "ended" in first and "ended 1" in second and "0 of 2 run" in total


def test_in_a_pipe_it_is_printed_at_each_change(
    ending: Ending, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = io.StringIO()
    monkeypatch.setattr("sys.stdout", printed)
    ending(lambda running: len(printed.getvalue().splitlines()) == 3 - running)
    assert watch(Console(stream=io.StringIO()), as_json=True) == 0
    states = [
        [one["state"] for one in json.loads(line)] for line in printed.getvalue().splitlines()
    ]
    assert states == [["starting"] * 2, ["ended", "starting"], ["ended"] * 2]


def test_words_of_a_log_move_no_cursor(tmp_path: Path) -> None:
    from mock_cloud.cli.jobs_table import jobs_table
    from mock_cloud.progress.live_view import render
    from mock_cloud.steps.job.job_list import JobView

    (tmp_path / "build.log").write_bytes(b"+ make\n" + TITLE + b"\n")
    view = JobView(job(1, tmp_path), "running", time.time(), 0.5)
    text = "\n".join(render(jobs_table([view], 150), 150))
    assert "^[]0;owned" in text and "\x1b]" not in text and "cost 0.50 so far" in text


@pytest.mark.parametrize("columns", [20, 40, 80])
def test_each_line_fits(tmp_path: Path, columns: int) -> None:
    from rich.text import Text

    from mock_cloud.cli.jobs_table import jobs_table
    from mock_cloud.progress.live_view import render
    from mock_cloud.steps.job.job_list import JobView

    views = [JobView(job(number, tmp_path), "running", None, None) for number in range(3)]
    lines = render(jobs_table(views, columns), columns)
    assert max(Text.from_ansi(line).cell_len for line in lines) <= columns
