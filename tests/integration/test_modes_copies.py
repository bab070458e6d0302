# SPDX-License-Identifier: GPL-2.0-or-later
"""What travels is what was given: --sources, --copyin and --copyout, after users' reports."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.integration.conftest import User
from tests.integration.faults import Command, node_facts

pytestmark = pytest.mark.lab

SPEC: Final = """\
Name: given
Version: 1
Release: 1
Summary: sources as they were given
License: MIT
BuildArch: noarch
Source0: run.sh
Source1: .config
Provides: word(%(cat %{_sourcedir}/below/word 2>/dev/null || echo none))
%description
x
%build
%{SOURCE0}
%files
"""
ODD: Final = ("Icon\r", "at\u202f10.png", "-notes", "draft ")
"""Files that are no sources: another system, a camera and an editor left them."""


def query(package: Path, *words: str) -> str:
    argv = ["rpm", "-qp", "--nosignature", *words, str(package)]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def test_sources_arrive_as_they_are(mock: User, tmp_path: Path) -> None:
    sources, result = tmp_path / "sources", tmp_path / "result"
    (sources / "below").mkdir(parents=True)
    (sources / "below/word").write_text("found")
    (sources / ".config").write_text("x")
    (sources / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (sources / "run.sh").chmod(0o755)
    os.utime(sources / "run.sh", (1, 1_000_000_000))
    for name in ODD:
        (sources / name).write_text("x")
    os.mkfifo(sources / "pipe")
    (tmp_path / "given.spec").write_text(SPEC)
    words = ("--spec", tmp_path / "given.spec", "--sources", sources, "--resultdir", result)
    ended = mock.mock("--rebuild", *words).expect()
    assert "sources/pipe is not sent: it is a named pipe" in ended.stderr
    source = result / "given-1-1.src.rpm"
    files = query(source, "--qf", "[%{FILENAMES} %{FILEMODES:octal} %{FILEMTIMES}\n]")
    assert "run.sh 100755 1000000000\n" in files
    assert ".config 100644 " in files
    assert "ran\n" in (result / "build.log").read_text()


@pytest.mark.slow
def test_sources_of_nothing(mock: User, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    lines = [line for line in SPEC.splitlines() if not line.startswith(("Source", "%{S"))]
    (tmp_path / "given.spec").write_text("\n".join(lines))
    words = ("--spec", tmp_path / "given.spec", "--sources", tmp_path / "empty")
    mock.mock("--buildsrpm", *words, "--resultdir", tmp_path / "result").expect()
    assert (tmp_path / "result/given-1-1.src.rpm").exists()


def test_what_cannot_be_copied_out_costs_neither_the_rest_nor_the_chroot(
    mock: User, tmp_path: Path
) -> None:
    script = "mkdir -p /opt/mixed; cd /opt/mixed; echo 1 > one; mkfifo -m 644 pipe; ln -s ../.. up"
    mock.mock("--chroot", script).expect()
    before = mock.nodes()
    ended = mock.mock("--copyout", "/opt/mixed", tmp_path / "out").expect(1)
    assert "/opt/mixed/pipe': it is a named pipe" in ended.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"one", "up"}
    assert (tmp_path / "out/up").readlink() == Path("../..")
    assert [row["lease"] for row in mock.nodes()] == [row["lease"] for row in before]
    mock.mock("--chroot", "rm -r /opt/mixed").expect()


def test_hidden_files_go_in_and_a_missing_place_is_named(mock: User, tmp_path: Path) -> None:
    (tmp_path / ".gitconfig").write_text("x")
    mock.mock("--copyin", tmp_path / ".gitconfig", "/builddir/.gitconfig").expect()
    assert mock.mock("--chroot", "cat /builddir/.gitconfig").expect().stdout == "x"
    ended = mock.mock("--copyin", tmp_path / ".gitconfig", "/no/such/dir/one").expect(1)
    assert "ERROR: [Errno 2] No such file or directory: '" in ended.stderr
    assert "/no/such/dir/one'" in ended.stderr.splitlines()[-1]


@pytest.mark.slow
def test_a_chroot_that_is_lost_with_its_node_is_announced(lone_mock: User) -> None:
    lone_mock.mock("--init").expect()
    with Command(lone_mock, "--chroot", "echo it runs $((1 + 1)); sleep 100") as command:
        command.wait_for("it runs 2")
        os.kill(node_facts(lone_mock).supervisor.pid, signal.SIGKILL)
        ended = command.ended()
    assert ended.code == 75
    name = lone_mock.config.chroot()
    assert f" is ended, and with it what was in the chroots {name}" in ended.stderr
