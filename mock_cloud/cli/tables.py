# SPDX-License-Identifier: GPL-2.0-or-later
"""Tables for people: aligned columns, two blanks between them."""

from __future__ import annotations

from collections.abc import Sequence

from mock_cloud.wire.terminal_text import printable


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print `rows`, the first of them the head; what cannot be printed is escaped."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (printable(cell).ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())
