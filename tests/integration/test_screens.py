# SPDX-License-Identifier: GPL-2.0-or-later
"""What a user sees on a real terminal, of a build on a node of the lab and of one that fails."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.conftest import User

pyte = pytest.importorskip("pyte")
pytest.importorskip("rich")

pytestmark = [pytest.mark.lab, pytest.mark.slow]
COLUMNS, ROWS = 104, 30
_ESCAPES = re.compile(rb"\x1b\[[0-9;]*[mKAJ]|\r")


class Seen:
    """A command on a terminal of its own, and its screen."""

    def __init__(self, argv: list[str], environment: dict[str, str]) -> None:
        self.data = b""
        self.screen = pyte.Screen(COLUMNS, ROWS)
        self._stream = pyte.ByteStream(self.screen)
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.process = subprocess.Popen(
            argv, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
        )
        os.close(slave)

    def read(self) -> bool:
        """Show what has come; False once there is no more."""
        try:
            data = os.read(self._master, 65536)
        except OSError:
            return False
        self.data += data
        self._stream.feed(data)
        return bool(data)

    def read_until(self, word: str) -> None:
        while word not in "\n".join(self.screen.display):
            assert self.read(), self.lines()

    def read_all(self) -> int:
        while self.read():
            pass
        return self.process.wait()

    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.screen.display if line.strip()]

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait()
        os.close(self._master)


@contextmanager
def seen(user: User, argv: list[str]) -> Iterator[Seen]:
    colours = {"TERM": "xterm-256color", "LANG": "C.UTF-8", "COLORTERM": ""}
    command = Seen(argv, {**user.environment, **colours})
    try:
        yield command
    finally:
        command.close()


def check_escapes(data: bytes) -> None:
    """Nothing but what draws: colours, erasing, a cursor that goes up."""
    assert b"\x1b" not in _ESCAPES.sub(b"", data)


def test_a_build_on_a_terminal(mock: User, hello_srpm: Path, tmp_path: Path) -> None:
    with seen(mock, mock.argv("--resultdir", str(tmp_path), str(hello_srpm))) as shown:
        shown.read_until("▸ job")
        shown.read_until("rpmbuild")
        assert shown.read_all() == 0
        assert "the node is kept until" in shown.lines()[-1]
        assert not any("▸" in line for line in shown.lines())
        check_escapes(shown.data)
    assert list(tmp_path.glob("*.x86_64.rpm"))


def test_a_failure_on_a_terminal(mock: User, failing_srpm: Path, tmp_path: Path) -> None:
    with seen(mock, mock.argv("--resultdir", str(tmp_path), str(failing_srpm))) as shown:
        assert shown.read_all() == 1
        assert any(line.startswith("compile: ") for line in shown.lines())
