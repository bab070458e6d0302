# SPDX-License-Identifier: GPL-2.0-or-later
"""Why a build failed, by its logs: each kind, the lines that tell, and logs that lie."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from mock_cloud.cloud.jobs import JobRecord
from mock_cloud.cloud.lease import Holder
from mock_cloud.steps.results.diagnosis import explain_failure
from mock_cloud.wire.replies import Cause, JobEnd

STAGE = "error: Bad exit status from /var/tmp/rpm-tmp.a1B2 (%{stage})\n\nRPM build errors:\n"
ROOT = "DEBUG util.py:461:  "


@pytest.fixture
def job(tmp_path: Path) -> JobRecord:
    return JobRecord(
        "20261130-070000-00000000", "cloud", "", (), "/", "rebuild", "small", str(tmp_path), (),
        fresh=True, started_unix=0.0, holder=Holder(1, "b/1"),
    )  # fmt: skip


def end(code: int, cause: Cause = Cause.NONE) -> JobEnd:
    return JobEnd(code, "done", "", {}, (), cause)


def write(job: JobRecord, build: str = "", root: str = "") -> None:
    for name, text in (("build.log", build), ("root.log", root)):
        if text:
            Path(job.resultdir, name).write_text(text)


@pytest.mark.parametrize(
    ("stage", "kind"),
    [("prep", "sources"), ("build", "compile"), ("install", "install"), ("check", "test")],
)
def test_the_stage_that_rpmbuild_names(job: JobRecord, stage: str, kind: str) -> None:
    write(job, f"+ make\nit is wrong\n{STAGE.format(stage=stage)}")
    why = explain_failure(job, end(1))
    assert why is not None
    assert (why.kind, why.lines[-1], Path(why.log).name) == (kind, "it is wrong", "build.log")
    assert why.hint and why.exit_code == 1


@pytest.mark.parametrize(
    ("code", "cause", "build", "root", "kind"),
    [
        (10, Cause.MEMORY, STAGE.format(stage="build"), "", "memory"),
        (10, Cause.MEMORY_GUESS, STAGE.format(stage="build"), "", "memory-guess"),
        (11, Cause.SILENCE, "waiting\n", "", "silence"),
        (11, Cause.NONE, "slow\n", "", "timeout"),
        (1, Cause.NONE, f"cc: No space left on device\n{STAGE.format(stage='build')}", "", "disk"),
        (30, Cause.NONE, "", f"{ROOT}nothing provides x >= 7 needed by y\n", "dependency"),
        (
            1,
            Cause.NONE,
            "error: Failed build dependencies:\n\tx is needed by y\n",
            "",
            "dependency",
        ),
        (1, Cause.NONE, "Installed (but unpackaged) file(s) found:\n   /a\n", "", "packaging"),
        (1, Cause.NONE, "something else\n", "", "other"),
    ],
)
def test_kinds_are_told_apart(
    job: JobRecord, code: int, cause: Cause, build: str, root: str, kind: str
) -> None:
    write(job, build, root)
    why = explain_failure(job, end(code, cause))
    assert why is not None and why.kind == kind
    assert "util.py" not in "".join(why.lines)


def test_the_first_error_is_shown_where_the_last_lines_lack_it(job: JobRecord) -> None:
    others = "".join(f"cc -c {number}.c\n" for number in range(100))
    write(job, f"a.c:1: error: it\n{others}make: *** [all] Error 1\n{STAGE.format(stage='build')}")
    why = explain_failure(job, end(1))
    assert why is not None
    assert why.lines[:2] == ("a.c:1: error: it", "…") and why.lines[-1].startswith("make: ***")


def test_only_this_jobs_part_of_a_log_counts(job: JobRecord) -> None:
    earlier = f"an earlier error: old\n{STAGE.format(stage='check')}"
    write(job, f"{earlier}new\n{STAGE.format(stage='build')}")
    why = explain_failure(replace(job, logs={"build.log": len(earlier)}), end(1))
    assert why is not None and (why.kind, why.lines) == ("compile", ("new",))


def test_of_a_chain_the_package_that_failed(job: JobRecord) -> None:
    chained = replace(job, packages=("one-1", "two-1"))
    for name in chained.packages:
        Path(job.resultdir, name).mkdir()
        Path(job.resultdir, name, "build.log").write_text(f"{name}\n{STAGE.format(stage='build')}")
    Path(job.resultdir, "one-1/fail").touch()
    why = explain_failure(chained, end(1))
    assert why is not None and why.lines == ("one-1",)


def test_a_log_that_is_a_link_or_a_pipe_is_not_read(job: JobRecord) -> None:
    Path(job.resultdir, "build.log").symlink_to("/etc/passwd")
    os.mkfifo(Path(job.resultdir, "root.log"))
    assert explain_failure(job, end(1)) is None


def test_a_log_of_escapes_and_endless_lines_is_harmless_and_short(job: JobRecord) -> None:
    Path(job.resultdir, "build.log").write_bytes(b"\x1b]0;x\x07" + b"\xff" * (3 << 20) + b"\n")
    why = explain_failure(job, end(1))
    assert why is not None and sum(map(len, why.lines)) < 2000
    assert "\x1b" not in "".join(why.lines)


def test_a_build_that_went_well_needs_no_reason(job: JobRecord) -> None:
    write(job, STAGE.format(stage="build"))
    assert explain_failure(job, end(0)) is None
