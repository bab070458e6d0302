# SPDX-License-Identifier: GPL-2.0-or-later
"""`python -m tests.real`: the table; exit status 1 if rpm disagrees."""

from __future__ import annotations

import sys

from mock_cloud.rpm_bindings import HINT, find_rpm
from tests.real.table import find_place, read_rows


def main() -> int:
    place = find_place()
    if place is None:
        print("test-real-data: skipped: no directory of real data (REAL=DIRECTORY)")
        return 0
    if find_rpm() is None:
        print(f"test-real-data: without rpm's word: {HINT}")
    rows = read_rows(place)
    widths = [max(len(str(row[column])) for row in rows) for column in range(4)]
    for row in rows:
        print("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=False)))
    wrong = [row for row in rows if not row.agrees]
    for row in wrong:
        print(f"test-real-data: rpm disagrees about {row.what}", file=sys.stderr)
    print(f"test-real-data: {len(rows)} rows, {len(wrong)} of which rpm sees otherwise")
    return 1 if wrong else 0


raise SystemExit(main())
