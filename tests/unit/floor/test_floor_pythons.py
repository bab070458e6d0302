# SPDX-License-Identifier: GPL-2.0-or-later
"""What the oldest supported Python refuses, and the one of these tests may not."""

from __future__ import annotations

import re

from tests.lab.layout import repository_root

_SOURCES = sorted((repository_root() / "mock_cloud").rglob("*.py"))
_BARE = re.compile(r":\s*ClassVar\b(?!\[)")


def test_the_expression_finds_what_it_is_for() -> None:
    assert _BARE.search("is_row: ClassVar = True")
    assert not _BARE.search("is_row: ClassVar[bool] = True")


def test_class_variables_say_their_type() -> None:
    """Python 3.10's get_type_hints, by which `wire.decode` reads JSON, takes no bare ClassVar."""
    bare = [str(path) for path in _SOURCES if _BARE.search(path.read_text(encoding="utf-8"))]
    assert bare == []
