# SPDX-License-Identifier: GPL-2.0-or-later
"""What is decided before bytes move: channels, gaps, command lines, clean texts."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mock_cloud.model import Toolkit
from mock_cloud.remote.bulk import MOST
from mock_cloud.remote.unverified import push_command, start_command
from mock_cloud.remote.upload import _gaps, channels_for
from mock_cloud.wire.terminal_text import clean

MIB = 1 << 20


@pytest.mark.parametrize(
    ("size_bytes", "rtt_s", "channels"),
    [
        (0, 0.1, 0),
        (5, 0.1, 0),
        (200 * MIB, 0.0005, 0),
        (200 * MIB, 0.02, 1),
        (200 * MIB, 0.1, 9),
        (12 * MIB, 0.1, 2),
    ],
)
def test_channels_beside_the_main_one(size_bytes: int, rtt_s: float, channels: int) -> None:
    assert channels_for(size_bytes, rtt_s) == channels


def test_sshds_default_limit_is_kept() -> None:
    assert MOST + 1 < 10  # MaxSessions of sshd_config(5)


@given(st.lists(st.integers(0, 1000), unique=True, max_size=20), st.integers(1, 1000))
def test_gaps_and_ranges_make_the_whole(bounds: list[int], size: int) -> None:
    inside = sorted(bound for bound in bounds if bound <= size)
    pairs = zip(inside[::2], inside[1::2], strict=False)
    held = [(start, end) for start, end in pairs if start < end]
    pieces = sorted([*held, *_gaps(held, size)])
    assert [start for start, _ in pieces] == [0, *(end for _, end in pieces[:-1])]
    assert pieces[-1][1] == size


def test_the_command_lines_are_plain_shell() -> None:
    toolkit = Toolkit("ab" * 32, Path("x"), "x86_64", "3.11", {})
    start = start_command(toolkit, "serve")
    for command in (start, push_command(toolkit)):
        subprocess.run(["sh", "-n"], input=command.encode(), check=True)
        assert command.startswith("exec /bin/sh -c '")
    assert "--inhibit-cache" in start
    assert "LD_PRELOAD" in start and "env -i" in start
    with pytest.raises(ValueError, match="quote"):
        start_command(toolkit, "it's")


@given(st.binary(max_size=2000))
def test_a_clean_text_is_one_printable_line(data: bytes) -> None:
    text = clean(data)
    assert text.isprintable() or text == ""
    assert len(text) <= 601


def test_escape_sequences_are_shown_not_obeyed() -> None:
    assert clean(b"a\x1b[2Jb\nc\xff\n") == "a\\x1b[2Jb | c\\xff"
