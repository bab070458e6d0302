# SPDX-License-Identifier: GPL-2.0-or-later
"""Real distributions' keys, headers, packages and databases: rpm agrees about each."""

from __future__ import annotations

import pytest

from tests.real.table import find_place, read_rows


def test_rpm_agrees_about_each_real_signature() -> None:
    place = find_place()
    if place is None:
        pytest.skip("no real packages ($MOCK_CLOUD_TEST_PACKAGES)")
    rows = read_rows(place)
    assert rows
    assert [row for row in rows if not row.agrees] == []
