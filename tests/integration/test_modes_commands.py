# SPDX-License-Identifier: GPL-2.0-or-later
"""--chroot, --shell, --copyin and --copyout through the launcher, in one kept chroot."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path

import pytest

from tests.integration.conftest import User

pytestmark = pytest.mark.lab


def test_one_word_is_a_shell_command_and_several_are_an_argv(mock: User) -> None:
    one = mock.mock("--chroot", "echo $HOME; id -u; pwd; exit 3").expect(3)
    assert one.stdout == "/builddir\n0\n/\n"
    assert "Start: chroot ['echo $HOME; id -u; pwd; exit 3']" in one.stderr
    several = mock.mock("--chroot", "--", "printf", "%s|", "a b", "$HOME", "--root").expect()
    assert several.stdout == "a b|$HOME|--root|"


def test_what_a_command_writes_is_apart_from_what_mock_says(mock: User, tmp_path: Path) -> None:
    script = "id -un; pwd; echo out; echo err >&2; printf '\\377\\0'"
    result = tmp_path / "result"
    ended = mock.mock("--unpriv", "--cwd", "/tmp", "--quiet", "--resultdir", result,
                      "--chroot", script).expect()  # fmt: skip
    assert ended.stdout == "mockbuild\n/tmp\nout\nerr\n\udcff\0"
    assert ended.stderr == ""
    assert "err" in (result / "root.log").read_text(errors="replace")


@pytest.mark.parametrize("word", ["--isolation=nspawn", "--new-chroot"])
def test_a_jail_takes_the_place_of_nspawn(mock: User, word: str) -> None:
    ended = mock.mock(word, "--chroot", "ls /dev").expect()
    assert "a jail takes the place of systemd-nspawn" in ended.stderr
    assert "loop" not in ended.stdout
    assert "jail" not in mock.mock("--chroot", "true").expect().stderr


@pytest.mark.slow
def test_a_command_that_is_not_there(mock: User) -> None:
    ended = mock.mock("--chroot", "--", "no-such-command", "x").expect(1)
    assert "no-such-command" in ended.stderr


@pytest.mark.slow
def test_a_shell_takes_commands_from_a_pipe(mock: User) -> None:
    script = b"PROMPT_COMMAND=;cd /root\npwd\ncat <<E\n" + b"x" * 200_000 + b"\nE\nexit 5\n"
    ended = mock.mock("--shell", stdin=script).expect(5)
    # An interactive shell prompts without a terminal too, and sets the window's title once.
    assert ended.stdout.rpartition("\a")[2] == f"/root\n{'x' * 200_000}\n"
    words = mock.mock("--shell", "--", "rpm", "-q", "bash", "|", "sed", "s/-.*//").expect()
    assert words.stdout == "bash\n"
    # As fedpkg calls it: options of the command, a redirection, and input that is closed.
    mock.mock("--shell", "--", "rpm", "--eval", "%{_libdir}", "> /var/tmp/said").expect()
    assert mock.mock("--shell", "cat; cat /var/tmp/said").expect().stdout == "/usr/lib64\n"


class Terminal:
    """A pseudo-terminal with a command on it, as somebody at a keyboard has."""

    def __init__(self, user: User, *words: str, rows: int, columns: int) -> None:
        self._leader, follower = pty.openpty()
        self.resize(rows, columns)

        def own() -> None:
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            user.argv(*words), stdin=follower, stdout=follower, stderr=follower, cwd=user.place,
            env={**user.environment, "TERM": "xterm"},
            preexec_fn=own,  # noqa: PLW1509
        )  # fmt: skip
        os.close(follower)
        self.seen = ""
        self.whole = b""

    def resize(self, rows: int, columns: int) -> None:
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self._leader, termios.TIOCSWINSZ, size)

    def type(self, text: str) -> None:
        os.write(self._leader, text.encode())

    def await_text(self, pattern: str, timeout_s: float = 300.0) -> re.Match[str]:
        """What matches in the output after the last match; AssertionError if nothing comes."""
        deadline = time.monotonic() + timeout_s
        while (found := re.search(pattern, self.seen)) is None:
            left = deadline - time.monotonic()
            ready = left > 0 and select.select([self._leader], [], [], left)[0]
            assert ready, f"no {pattern!r} in {self.seen!r}"
            self.seen += self._read()
        self.seen = self.seen[found.end() :]
        return found

    def _read(self) -> str:
        data = os.read(self._leader, 65536)
        self.whole += data
        return data.decode(errors="replace")

    def settings(self) -> list[object]:
        return termios.tcgetattr(self._leader)

    def wait(self) -> int:
        """The exit status; what is still printed is read, so that nothing blocks."""
        deadline = time.monotonic() + 60
        while self.process.poll() is None and time.monotonic() < deadline:
            if select.select([self._leader], [], [], 0.1)[0]:
                try:
                    self.seen += self._read()
                except OSError:
                    break
        return self.process.wait(timeout=600)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._leader)


def test_a_shell_on_a_terminal(mock: User) -> None:
    prompt = r"<mock-chroot>|[#$] "
    terminal = Terminal(mock, "--shell", rows=33, columns=101)
    try:
        before = terminal.settings()
        terminal.await_text(prompt)
        terminal.type("stty size; echo TERM=$TERM; tty\n")
        terminal.await_text(r"\n33 101\r\nTERM=xterm\r\n/dev/pts/\d+\r\n")
        terminal.resize(20, 60)
        terminal.process.send_signal(signal.SIGWINCH)
        seen = "33 101"
        while seen == "33 101":  # until the new size has come through; await_text has a deadline
            terminal.await_text(prompt)
            terminal.type("stty size\n")
            seen = terminal.await_text(r"\n(\d+ \d+)\r\n")[1]
        assert seen == "20 60"
        terminal.await_text(prompt)
        terminal.type("echo go''ing; sleep 100\n")
        terminal.await_text(r"\ngoing\r\n")
        assert terminal.settings() != before  # raw: Ctrl-C is a byte for the chroot
        terminal.type("\x03")
        terminal.await_text(r"\^C")
        terminal.await_text(prompt)  # a shell that is interrupted forgets what was typed ahead
        terminal.type("echo still here\n")
        terminal.await_text(r"\nstill here\r\n")
        terminal.type("exit 9\n")
        assert terminal.wait() == 9
        assert terminal.settings() == before
        assert re.search(rb"[^\r]\n", terminal.whole) is None  # each line begins at the margin
    finally:
        terminal.close()


@pytest.mark.slow
def test_files_in_and_out(mock: User, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub/tool").write_text("#!/bin/sh\necho tool\n")
    (tree / "sub/tool").chmod(0o755)
    (tree / "link").symlink_to("sub/tool")
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"1\0\xff")
    two.write_text("2")
    mock.mock("--copyin", one, "/var/tmp/renamed").expect()
    mock.mock("--copyin", one, two, tree, "/var/tmp").expect()
    seen = mock.mock("--chroot", "cd /var/tmp; cksum one renamed; cat two; tree/sub/tool").expect()
    assert len({line.split()[0] for line in seen.stdout.splitlines()[:2]}) == 1
    assert seen.stdout.endswith("2tool\n")

    assert mock.mock("--copyin", tmp_path / "absent", "/var/tmp").code == 50
    assert mock.mock("--copyin", one).code == 50
    assert mock.mock("--copyout", "/var/tmp/one").code == 50

    out = tmp_path / "out"
    out.mkdir()
    mock.mock("--copyout", "/var/tmp/one", tmp_path / "back").expect()
    assert (tmp_path / "back").read_bytes() == one.read_bytes()
    mock.mock("--copyout", "/var/tmp/tree", tmp_path / "whole").expect()
    assert (tmp_path / "whole/sub/tool").stat().st_mode & 0o777 == 0o755
    mock.mock("--copyout", "/var/tmp/[ot]*", out).expect()
    assert sorted(path.name for path in out.iterdir()) == ["one", "tree", "two"]
    missing = mock.mock("--copyout", "/var/tmp/no-such*", out)
    assert missing.code == 50
    assert "/var/tmp/no-such* not found" in missing.stderr
    in_the_way = mock.mock("--copyout", "/var/tmp/tree", tmp_path / "whole")
    assert in_the_way.code == 50
    assert "exists already" in in_the_way.stderr
    assert mock.mock("--copyout", "/var/tmp/[ot]*", tmp_path / "file").code == 50
    assert not (tmp_path / "file").exists()
    assert mock.mock("--chroot", "test -e /var/tmp/one").code == 0, "a mistake cost the chroot"
