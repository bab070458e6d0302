# SPDX-License-Identifier: GPL-2.0-or-later
"""The user's terminal while a job has it: a real one, of which this side is the keyboard."""

from __future__ import annotations

import io
import os
import pty
import sys
import termios
from collections.abc import Iterator

import pytest

from mock_cloud.console import Console
from mock_cloud.steps.job.keyboard import passed_on


@pytest.fixture
def keyboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The other end of the terminal that is standard input here."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, closefd=True) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield ours
    os.close(ours)


def is_raw() -> bool:
    flags: int = termios.tcgetattr(sys.stdin.fileno())[3]
    return not flags & (termios.ICANON | termios.ECHO | termios.ISIG)


def test_the_terminal_is_raw_while_a_program_of_the_users_has_it(keyboard: int) -> None:
    """Before, Ctrl-C is for us, and line feeds begin lines."""
    with passed_on(lambda data, eof: None, lambda r, c: None, is_terminal=True) as switch:
        assert not is_raw()
        switch(True)
        switch(True)
        assert is_raw()
        switch(False)
        assert not is_raw()
        switch(True)
    assert not is_raw()


def test_what_was_typed_before_the_program_began_reaches_it(keyboard: int) -> None:
    got: list[bytes] = []
    with passed_on(lambda data, eof: got.append(data), lambda r, c: None, is_terminal=True) as raw:
        os.write(keyboard, b"ls")  # no line yet
        raw(True)
        os.write(keyboard, b"\x03\r")
        while b"".join(got) != b"ls\x03\r":
            pass


def test_our_own_lines_begin_at_the_margin_of_a_raw_terminal() -> None:
    stream = io.StringIO()
    console = Console(stream=stream)
    console.info("one")
    console.set_raw(True)
    console.warning("two")
    console.text("three\n")
    console.set_raw(False)
    console.info("four")
    assert stream.getvalue() == "INFO: one\nWARNING: two\r\nthree\r\nINFO: four\n"
