# SPDX-License-Identifier: GPL-2.0-or-later
"""What a host answers when it is asked for its claim: hostile text."""

from __future__ import annotations

import pytest

from mock_cloud.cloud.hosts.client import AnswerError, Free, Taken, Unfit, parse_answer


def test_the_three_answers() -> None:
    assert parse_answer(b"free\n") == Free()
    assert parse_answer(b"refused\nno room\n") == Unfit("no room")
    taken = Taken("a1", "u@h:0/beef", "lab", 60)
    assert parse_answer(b"taken\na1\nu@h:0/beef\nlab\n60\n") == taken
    assert parse_answer(b"claimed\na1\nu@h:0/beef\nlab\n60\n") == taken


def test_what_a_login_shell_prints_first_is_passed_over() -> None:
    assert parse_answer(b"Welcome!\nfree\nfree\n") == Free()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"freedom\n",
        b"free\nmore\n",
        b"refused\n",
        b"taken\na1\nowner\nlab\n",
        b"taken\n../a\nowner\nlab\n60\n",
        b"taken\na1\nowner\nlab\n-60\n",
        b"taken\na1\nowner\nlab\n99999999999\n",
        b"\xff\x00",
    ],
)
def test_anything_else_is_no_answer(data: bytes) -> None:
    with pytest.raises(AnswerError):
        parse_answer(data)


def test_what_it_says_is_printable_and_short() -> None:
    answer = parse_answer(b"refused\n\x1b]0;title\x07" + b"x" * 4000 + b"\n")
    assert isinstance(answer, Unfit)
    assert answer.why.isprintable() and len(answer.why) <= 300
