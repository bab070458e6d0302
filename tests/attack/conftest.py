# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks on the product, each a test that fails while the attack succeeds.

A test says what it does by ``@pytest.mark.attack("from where", "what is tried", "what must come
of it")``. `make attack` runs them all and writes docs/threat-model.md's table from the marks of those
that passed.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any, Final

import pytest

_DOCUMENT: Final = Path(__file__).parents[2] / "docs/threat-model.md"
_BEGIN: Final = "<!-- attacks: written by `make attack` -->\n"
_END: Final = "<!-- end of attacks -->\n"

_rows: dict[tuple[str, str, str], set[str]] = {}
_failed: set[tuple[str, str, str]] = set()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Note each attack's outcome: one skipped or failed case keeps its row out of the table."""
    outcome = yield
    report = outcome.get_result()
    mark = item.get_closest_marker("attack")
    if mark is None:
        return
    row: tuple[str, str, str] = mark.args
    if report.outcome != "passed":
        _failed.add(row)
    elif report.when == "call":
        _rows.setdefault(row, set()).add(f"{item.path.name}")


def pytest_sessionfinish() -> None:
    """Write the table if `make attack` asks for it."""
    if os.environ.get("MOCK_CLOUD_WRITE_ATTACKS"):
        write_table(_DOCUMENT)


def write_table(document: Path) -> None:
    """Replace the table in `document` by one of the attacks that were tried and held off."""
    text = document.read_text()
    before, begin, rest = text.partition(_BEGIN)
    _old, end, after = rest.partition(_END)
    assert begin and end, f"{document} has no place for the table"
    lines = ["| from | attack | outcome | test |", "|---|---|---|---|"]
    for row, tests in sorted(_rows.items()):
        if row not in _failed:
            lines.append("| " + " | ".join((*row, ", ".join(sorted(tests)))) + " |")
    document.write_text(before + begin + "\n" + "\n".join(lines) + "\n\n" + end + after)
