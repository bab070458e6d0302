# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud attach`, `logs`, `wait` and `cancel`, of jobs in every state."""

from __future__ import annotations

import argparse
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mock_cloud.cli import attach, cancel, logs, wait
from mock_cloud.cloud.jobs import JobPhase, JobRecord
from mock_cloud.cloud.journal import Journal
from mock_cloud.cloud.lease import Holder, LeaseState
from mock_cloud.console import Console
from mock_cloud.errors import ChrootLocked, InputError, NodeGone
from tests.unit.cloud.cloud_in_memory import lease_of

ENDS = "import signal; signal.signal(signal.SIGINT, signal.SIG_DFL); print(flush=True); input()"


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Journal:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "state/mock-cloud").mkdir(parents=True)
    return Journal(tmp_path / "state/mock-cloud")


@pytest.fixture
def command() -> Iterator[subprocess.Popen[bytes]]:
    """One that follows a job; Ctrl-C ends it, and it writes nothing into the journal."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", ENDS], stdin=pipe, stdout=pipe) as child:
        assert child.stdout is not None and child.stdout.readline()
        yield child
        child.kill()


def note(journal: Journal, name: str, **changes: object) -> None:
    job = JobRecord(
        name, "cloud", "", ("--rebuild", "/src/hello-1-1.src.rpm"), "/", "rebuild", "small", "/r",
        (), fresh=True, started_unix=time.time(), holder=Holder(1, "another-boot/1"), lease="l1",
    )  # fmt: skip
    journal.note_job(replace(job, **changes))  # type: ignore[arg-type]


def run(*names: str) -> tuple[int, str]:
    """`cancel`'s exit code, and what it says."""
    screen = io.StringIO()
    code = cancel.run(argparse.Namespace(job=names, configdir=None), Console(stream=screen))
    return code, screen.getvalue()


def take(name: str) -> tuple[int, str]:
    """`attach`'s exit code, and what it says."""
    screen = io.StringIO()
    words = argparse.Namespace(job=name, progress="auto", shell=False, after=None, configdir=None)
    return attach.run(words, Console(stream=screen)), screen.getvalue()


def test_attach_ends_as_the_jobs_own_command_did(journal: Journal) -> None:
    note(journal, "well", state=JobPhase.ENDED, exit=0)
    note(journal, "ill", state=JobPhase.ENDED, exit=1)
    note(journal, "unknown", state=JobPhase.ENDED, exit=None, problem="the node ended")
    assert take("well") == (0, "INFO: job well has ended: results and logs are in /r\n")
    assert take("ill") == (1, "INFO: job ill has ended: results and logs are in /r\n")
    assert take("unknown") == (75, "ERROR: the node ended\n")


def test_attach_takes_no_job_from_its_command_and_none_that_is_lost(journal: Journal) -> None:
    with journal.transaction() as books:
        books.write(lease_of(journal.owner, "l1", state=LeaseState.BUSY, job="followed"))
    note(journal, "followed", state=JobPhase.RUNNING, holder=Holder.me())
    with pytest.raises(ChrootLocked, match=f"is followed by process {os.getpid()}"):
        take("followed")
    note(journal, "lost", state=JobPhase.RUNNING)
    with pytest.raises(NodeGone, match="job lost is lost"):
        take("lost")


def test_wait_ends_with_the_first_that_failed_in_the_order_given(journal: Journal) -> None:
    note(journal, "well", state=JobPhase.ENDED, exit=0)
    note(journal, "ill", state=JobPhase.ENDED, exit=10)
    note(journal, "lost", state=JobPhase.RUNNING)
    for names, code in ((["well"], 0), (["well", "ill", "lost"], 10), (["lost", "ill"], 75)):
        assert wait.run(argparse.Namespace(job=names), Console(stream=io.StringIO())) == code


def test_wait_finds_a_wrong_name_before_it_waits(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wait, "time", None)  # it would sleep
    note(journal, "begun", state=JobPhase.STARTING, holder=Holder.me())
    with pytest.raises(InputError, match="no job is called 'nosuch'"):
        wait.run(argparse.Namespace(job=["begun", "nosuch"]), Console(stream=io.StringIO()))


def test_logs_follow_a_job_to_its_end_from_where_it_begins(
    journal: Journal, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    command: subprocess.Popen[bytes],
) -> None:  # fmt: skip
    log = tmp_path / "build.log"
    log.write_bytes(b"an earlier build\n+ make\n")
    note(
        journal, "job", state=JobPhase.RUNNING, holder=Holder.of(command.pid),
        resultdir=str(tmp_path), logs={"build.log": len("an earlier build\n")},
    )  # fmt: skip

    def build() -> None:
        with log.open("ab") as stream:
            stream.write(b"\x1b]0;owned\x07+ done\n")
        command.kill()
        command.wait()

    builder = threading.Timer(0.3, build)
    builder.start()
    screen = io.StringIO()
    words = argparse.Namespace(job="job", follow=True, log=None)
    assert logs.run(words, Console(stream=screen)) == 0
    builder.join()
    assert capsys.readouterr().out == "+ make\n^[]0;owned^G+ done\n"


def test_what_cannot_be_stopped_any_more_is_not_said_to_have_been(journal: Journal) -> None:
    note(journal, "well", state=JobPhase.ENDED, exit=0)
    note(journal, "lost", state=JobPhase.RUNNING)
    note(journal, "stopped", state=JobPhase.ENDED, exit=7)
    assert run("well", "lost", "stopped") == (
        0,
        "INFO: job well has ended\n"
        "WARNING: job lost is lost: its node has ended\n"
        "INFO: job stopped was stopped\n",
    )


def test_one_that_is_not_there_keeps_no_other_running(journal: Journal) -> None:
    note(journal, "well", state=JobPhase.ENDED, exit=0)
    code, said = run("nosuch", "well")
    assert code == 50 and "no job is called 'nosuch'" in said and "job well has ended" in said


def test_a_command_that_leaves_it_to_the_background(
    journal: Journal, command: subprocess.Popen[bytes]
) -> None:
    """Its node did not answer: the command has ended, and the job is not known to have."""
    with journal.transaction() as books:
        lease = lease_of(journal.owner, "l1", state=LeaseState.BUSY, job="job")
        books.write(replace(lease, holder=Holder(1, "another-boot/1")))
    note(journal, "job", state=JobPhase.RUNNING, holder=Holder.of(command.pid))
    code, said = run("job")
    assert command.wait() == -signal.SIGINT
    assert (code, said) == (
        0, "WARNING: job job is stopped in the background: mock-cloud jobs lists it\n"
    )  # fmt: skip
