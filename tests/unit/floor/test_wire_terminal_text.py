# SPDX-License-Identifier: GPL-2.0-or-later
"""A node's output made safe to show, however it is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mock_cloud.wire.terminal_text import Sanitizer, sanitize


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"plain\n\ttext\n", "plain\n\ttext\n"),
        ("Größe ✓ 漢字\n".encode(), "Größe ✓ 漢字\n"),
        (b"\x1b[2J\x1b]0;title\x07", "^[[2J^[]0;title^G"),
        (b"\x00\x08\x7f", "^@^H^?"),
        ("\x9b2J\x85".encode(), "<U+009B>2J<U+0085>"),
        ("a\u202eb\u2028c\ufeff".encode(), "a<U+202E>b<U+2028>c<U+FEFF>"),
        (b"one\r\ntwo\rthree\r\r\n", "one\ntwo\nthree\n\n"),
        (b"\xff\xc3(", "\ufffd\ufffd("),
        (b"cut \xe2\x82", "cut \ufffd"),
    ],
)
def test_shown(data: bytes, shown: str) -> None:
    assert sanitize(data) == shown


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=6))
def test_cuts_make_no_difference_and_nothing_dangerous_is_left(
    data: bytes, cuts: list[int]
) -> None:
    sanitizer = Sanitizer()
    shown, start = "", 0
    for cut in [*sorted(cuts), len(data)]:
        shown += sanitizer.feed(data[start:cut])
        start = max(start, cut)
    shown += sanitizer.finish()
    assert shown == sanitize(data)
    assert all(character in "\n\t" or character.isprintable() for character in shown
               if ord(character) < 0xA0)  # fmt: skip
    shown.encode()


@given(st.text(alphabet=st.characters(categories=["L", "N", "P", "S"])))
def test_text_is_left_alone(text: str) -> None:
    assert sanitize(text.encode()) == text


def test_a_sanitizer_can_be_used_again() -> None:
    sanitizer = Sanitizer()
    assert sanitizer.feed(b"a\r\xe2") + sanitizer.finish() == "a\n\ufffd"
    assert sanitizer.feed(b"\nb") == "\nb"
