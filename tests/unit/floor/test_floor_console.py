# SPDX-License-Identifier: GPL-2.0-or-later
"""What people see: mock's lines, no progress where nobody looks, no escape from a node."""

from __future__ import annotations

import io

import pytest
from pytest_mock import MockerFixture

from mock_cloud.console import Console
from mock_cloud.errors import (
    ConfigError,
    InputError,
    MockCloudError,
    UnsupportedByEngine,
    UsageError,
)
from mock_cloud.wire.terminal_text import printable


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm")
    return Terminal()


def test_lines_are_those_of_mock() -> None:
    stream = io.StringIO()
    console = Console(stream=stream)
    console.info("one")
    console.start("chroot init")
    console.finish("chroot init")
    console.error("two")
    assert stream.getvalue() == "INFO: one\nStart: chroot init\nFinish: chroot init\nERROR: two\n"


@pytest.mark.parametrize(
    ("kind", "level"),
    [
        (UsageError, "CRITICAL"),
        (InputError, "CRITICAL"),
        (UnsupportedByEngine, "ERROR"),
        (ConfigError, "ERROR"),
    ],
)
def test_wrong_use_is_critical_as_in_mock(kind: type[MockCloudError], level: str) -> None:
    stream = io.StringIO()
    Console(stream=stream).failure(kind("what", hint="next"))
    assert stream.getvalue() == f"{level}: what\n       next\n"


def test_quiet_keeps_warnings_and_errors_only() -> None:
    stream = io.StringIO()
    console = Console(0, stream)
    console.info("one")
    console.start("two")
    console.warning("three")
    console.error("four")
    assert stream.getvalue() == "WARNING: three\nERROR: four\n"


def test_a_file_gets_no_progress() -> None:
    stream = io.StringIO()
    console = Console(stream=stream)
    console.progress("measuring")
    console.done()
    assert stream.getvalue() == ""


def test_progress_is_gone_before_the_next_line(terminal: Terminal) -> None:
    console = Console(stream=terminal)
    console.progress("measuring the node")
    console.info("done")
    assert terminal.getvalue() == "measuring the node\r\x1b[KINFO: done\n"


def test_progress_never_wraps(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    Console(stream=terminal).progress("x" * 100)
    assert terminal.getvalue() == "x" * 19


def test_a_failure_says_what_and_what_next() -> None:
    stream = io.StringIO()
    Console(stream=stream).failure(ConfigError("no remote 'x'", hint="there are: y"))
    assert stream.getvalue() == "ERROR: no remote 'x'\n       there are: y\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("a\nb", "a\\nb"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\u202eevil", "\\u202eevil"),
        ("\udcff", "\\udcff"),
    ],
)
def test_nothing_of_a_message_reaches_the_terminal_as_a_command(text: str, shown: str) -> None:
    assert printable(text) == shown
    stream = io.StringIO()
    Console(stream=stream).failure(ConfigError(text))
    assert shown in stream.getvalue()


def test_progress_is_redrawn_ten_times_a_second_at_most(
    terminal: Terminal, mocker: MockerFixture
) -> None:
    clock = mocker.patch("mock_cloud.console.time.monotonic")
    console = Console(stream=terminal)
    for clock.return_value, text in ((10.0, "one"), (10.05, "two"), (10.11, "three")):
        console.progress(text)
    assert "one" in terminal.getvalue()
    assert "two" not in terminal.getvalue()
    assert terminal.getvalue().endswith("three")


def test_phases_of_what_takes_minutes_are_lines_in_a_file() -> None:
    stream = io.StringIO()
    console = Console(stream=stream)
    console.phase("not kept")
    console.keeps_phases = True
    for message in ("booting", "booting", "measuring", "booting"):
        console.phase(message)
    assert stream.getvalue() == "INFO: booting\nINFO: measuring\nINFO: booting\n"
    console.set_verbosity(0)
    console.phase("said to nobody")
    assert "nobody" not in stream.getvalue()
