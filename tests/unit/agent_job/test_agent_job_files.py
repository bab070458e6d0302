# SPDX-License-Identifier: GPL-2.0-or-later
"""A job's files: terminal records, status, input, and ids that name them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mock_cloud.agent.engine.input import FIFO, InputKind, InputReader, send_data, send_resize
from mock_cloud.agent.job import running
from mock_cloud.agent.serve_jobs import JobFiles
from mock_cloud.wire.decode import Malformed
from mock_cloud.wire.replies import Status, read_status, write_status
from mock_cloud.wire.terminal_log import (
    STDERR,
    STDOUT,
    TERMINAL_RECORD_MAX,
    TerminalDecoder,
    TerminalError,
    TerminalWriter,
)

WRITES = st.lists(st.tuples(st.sampled_from((STDOUT, STDERR)), st.binary(max_size=300)))


@given(writes=WRITES, cuts=st.lists(st.integers(1, 50)))
def test_the_terminal_survives_any_cuts(writes: list[tuple[int, bytes]], cuts: list[int]) -> None:
    reader, descriptor = os.pipe()
    writer = TerminalWriter(descriptor)
    for stream, data in writes:
        writer.write(stream, data)
    os.close(descriptor)
    with os.fdopen(reader, "rb") as pipe:
        log = pipe.read()
    decoder, records = TerminalDecoder(), []
    for size in [*cuts, len(log)]:
        records += decoder.feed(log[:size])
        log = log[size:]
    assert records == [(stream, data) for stream, data in writes if data]


def test_a_long_write_becomes_records_within_the_bound(tmp_path: Path) -> None:
    path = tmp_path / "terminal"
    with path.open("wb") as stream:
        TerminalWriter(stream.fileno()).write(STDOUT, b"x" * (TERMINAL_RECORD_MAX + 1))
    assert [len(data) for _, data in TerminalDecoder().feed(path.read_bytes())] == [
        TERMINAL_RECORD_MAX,
        1,
    ]


@pytest.mark.parametrize("data", [b"\x03\0\0\0\1x", b"\1\0\1\0\1", b"hello"])
def test_what_is_no_terminal_log_is_refused(data: bytes) -> None:
    with pytest.raises(TerminalError):
        TerminalDecoder().feed(data)


def test_a_status_comes_back(tmp_path: Path) -> None:
    assert read_status(str(tmp_path)) is None
    status = Status("done", 10, "why", {"/a": "00"}, ["/var/lib/mock/x"])
    write_status(str(tmp_path), status)
    assert read_status(str(tmp_path)) == status
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"]


def test_input_arrives_in_order(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / FIFO)
    reader = InputReader(str(tmp_path))
    data = bytes(range(256)) * 40
    send_data(str(tmp_path), data, eof=False, timeout_s=1)
    send_resize(str(tmp_path), 50, 70000, timeout_s=1)
    send_data(str(tmp_path), b"", eof=True, timeout_s=1)
    events = reader.read()
    assert b"".join(event.data for event in events if event.kind is InputKind.DATA) == data
    assert events[-2].size() == (50, 65535)
    assert events[-1].kind is InputKind.EOF
    assert reader.read() == []
    reader.close()
    with pytest.raises(BrokenPipeError):
        send_data(str(tmp_path), b"late", eof=False, timeout_s=1)


def test_a_job_that_takes_no_input_does_not_block_for_ever(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / FIFO)
    reader = InputReader(str(tmp_path))
    with pytest.raises(TimeoutError):
        send_data(str(tmp_path), b"x" * (1 << 20), eof=False, timeout_s=0.05)
    reader.close()


@pytest.mark.parametrize("job", ["", ".", "..", ".hidden", "a/b", "a\0", "ü", "x" * 65, "a\n"])
def test_an_id_that_is_no_plain_name_is_refused(job: str) -> None:
    with pytest.raises(Malformed):
        running.job_dir("/w", job)


def test_a_plain_id_names_a_directory() -> None:
    assert running.job_dir("/w", "A-1_b.2") == "/w/jobs/A-1_b.2"
    assert running.job_dir("/w", "x" * 64)


def test_the_state_of_a_job(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        running.state(str(tmp_path), "one")
    directory = tmp_path / "jobs/one"
    directory.mkdir(parents=True)
    write_status(str(directory), Status("build"))
    assert running.state(str(tmp_path), "one") is running.JobState.VANISHED
    started = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    (directory / "pid").write_text(f"{os.getpid()} {started}\n")
    assert running.state(str(tmp_path), "one") is running.JobState.RUNNING
    (directory / "pid").write_text(f"{os.getpid()} {int(started) + 1}\n")
    assert running.state(str(tmp_path), "one") is running.JobState.VANISHED
    assert running.cancel(str(tmp_path), "one") is True
    write_status(str(directory), Status("done", 0))
    assert running.state(str(tmp_path), "one") is running.JobState.FINISHED


def test_a_result_may_go_while_results_are_listed(tmp_path: Path) -> None:
    """As createrepo_c's do, which a chain runs between packages."""
    results = tmp_path / "jobs/j1/results"
    (results / "below").mkdir(parents=True)
    for name in ("a", "b", "below/c", "d"):
        (results / name).write_text(name)
    names = JobFiles(str(tmp_path), "j1").names()
    found = [next(names)]
    (results / "b").unlink()
    shutil.rmtree(results / "below")
    assert found + list(names) == ["a", "d"]
