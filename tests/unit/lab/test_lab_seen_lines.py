# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of what used to befall builds names tests that exist."""

from __future__ import annotations

import re

import pytest

from tests.lab.layout import repository_root
from tests.seen_lines import SEEN, TESTS


@pytest.mark.parametrize("test", sorted(TESTS))
def test_each_test_of_the_table_is_there(test: str) -> None:
    path, _, name = test.partition("::")
    text = (repository_root() / path).read_text()
    assert re.search(rf"^def {name}\(", text, re.MULTILINE)


def test_each_line_has_a_test_and_a_row() -> None:
    page = (repository_root() / "docs/faults.md").read_text()
    for then, expected, tests in SEEN.values():
        assert tests and f"| {then} | {expected} |" in page
