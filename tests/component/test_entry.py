# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs started oddly: streams closed or full, another encoding, Ctrl-C before anything else."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from mock_cloud.errors import EXIT_INTERRUPTED

CLI = "from mock_cloud.cli import main"
LAUNCHER = "from mock_cloud.launcher import main"
SESSION = "from mock_cloud.handover import main"

Ended = subprocess.CompletedProcess[bytes]


@pytest.fixture
def environ(tmp_path: Path, cache: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    places = {f"XDG_{name}_HOME": str(tmp_path) for name in ("STATE", "CONFIG", "DATA")}
    return {**kept, **places, "XDG_CACHE_HOME": str(cache), "HOME": str(tmp_path)}


def run(
    program: str, *words: str, environ: dict[str, str], redirection: str = "", before: str = ""
) -> Ended:
    """The program in a process of its own, its streams as a shell's `redirection` leaves them."""
    script = f"import sys\n{before}\n{program}\nsys.exit(main())\n"
    return subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-c", script, *words],
        env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        check=False, timeout=600, cwd=Path(__file__).parents[2],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("program", "words", "code", "redirection"),
    [
        (CLI, ["nodes"], 0, "<&-"),
        (CLI, ["nodes"], 0, ">&-"),
        (CLI, ["nodes"], 0, "2>&-"),
        (LAUNCHER, ["--version"], 0, "<&- >&- 2>&-"),
        (SESSION, [], 5, "<&- >&- 2>&-"),
    ],
    ids=["stdin", "stdout", "stderr", "launcher", "session"],
)
def test_a_closed_stream_changes_nothing(
    environ: dict[str, str], program: str, words: list[str], code: int, redirection: str
) -> None:
    ended = run(program, *words, environ=environ, redirection=redirection)
    assert ended.returncode == code
    assert b"Traceback" not in ended.stderr


@pytest.mark.parametrize("words", [["nodes", "--json"], ["completion", "bash"], ["--help"]])
def test_a_full_disk_under_standard_output_is_said(
    environ: dict[str, str], words: list[str]
) -> None:
    ended = run(CLI, *words, environ=environ, redirection=">/dev/full")
    assert ended.returncode == 1
    assert ended.stderr == b"ERROR: cannot write to standard output: No space left on device\n"


def test_output_of_a_job_that_was_lost_is_no_success(environ: dict[str, str]) -> None:
    program = (
        "from mock_cloud.console import Console\n"
        "from mock_cloud.exit_status import end_well\n"
        "console = Console()\n"
        "def main():\n"
        "    return end_well(console, lambda: console.output(b'x') or 0)\n"
    )
    ended = run(program, environ=environ, redirection=">/dev/full")
    assert ended.returncode == 1
    assert ended.stderr == b"ERROR: cannot write to standard output: No space left on device\n"


def test_a_full_disk_hides_no_other_code(environ: dict[str, str]) -> None:
    ended = run(CLI, "doctor", "nosuch", environ=environ, redirection=">/dev/full")
    assert ended.returncode == 3 and b"Traceback" not in ended.stderr
    ended = run(CLI, "attest", "nosuch", environ=environ, redirection="2>/dev/full")
    assert ended.returncode == 3


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_the_encoding_lacks_is_escaped(
    environ: dict[str, str], tmp_path: Path, encoding: str
) -> None:
    odd = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    environ |= odd | {"PYTHONIOENCODING": encoding}
    remotes = tmp_path / "mock/remotes.d"
    remotes.mkdir(parents=True)
    (remotes / "\u010desk\u00fd.toml").write_text("")
    ended = run(CLI, "doctor", environ=environ)
    assert b"Traceback" not in ended.stderr
    assert b"python" in ended.stdout
    ended.stdout.decode(encoding)


def test_the_terminal_is_still_known_by_its_size(environ: dict[str, str]) -> None:
    code = (
        "from mock_cloud.entry import mend_streams; mend_streams();"
        "from mock_cloud.steps.job.keyboard import find_terminal; print(find_terminal())"
    )
    ours, theirs = pty.openpty()
    try:
        fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 101, 0, 0))
        subprocess.run(
            [sys.executable, "-c", code], env=environ | {"TERM": "xterm"}, check=True, timeout=600,
            stdin=theirs, stdout=theirs, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        assert os.read(ours, 100) == b"(33, 101, 'xterm')\r\n"
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_what_is_printed_arrives_in_order(environ: dict[str, str], unbuffered: str) -> None:
    code = (
        "from mock_cloud.entry import mend_streams; mend_streams();"
        "import sys, os; print('one'); sys.stdout.flush(); os.write(1, b'two\\n'); print('three')"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], env=environ | {"PYTHONUNBUFFERED": unbuffered}, check=True,
        stdout=subprocess.PIPE, timeout=600, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert ended.stdout == b"one\ntwo\nthree\n"


INTERRUPT = """
import os, signal
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
"""


@pytest.mark.parametrize(
    ("program", "name"),
    [
        (CLI, "mock_cloud.cli.verbs"),
        (CLI, "mock_cloud.cli.doctor"),
        (LAUNCHER, "mock_cloud.launcher.dispatch"),
        (SESSION, "mock_cloud.launcher.handed_over"),
    ],
)
def test_ctrl_c_while_it_is_loaded_ends_it_without_a_traceback(
    environ: dict[str, str], program: str, name: str
) -> None:
    before = INTERRUPT.format(name=name)
    ended = run(program, "doctor", environ=environ | {"PATH": "/nonexistent"}, before=before)
    assert ended.returncode in (-signal.SIGINT, EXIT_INTERRUPTED)
    assert b"Traceback" not in ended.stderr and ended.stderr.count(b"\n") <= 1
