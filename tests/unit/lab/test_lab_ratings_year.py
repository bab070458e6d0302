# SPDX-License-Identifier: GPL-2.0-or-later
"""The simulation of ratings is told what the product's rules are, and knows who is bad."""

from __future__ import annotations

import pytest

from tests import ratings_year


def test_a_short_year_is_the_same_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ratings_year, "_DAYS", 5)
    first, again = (
        [(one.kind, one.caught, one.lies, one.flags) for one in ratings_year.simulate(1)]
        for _ in range(2)
    )
    assert first == again
    always = [one for one in first if one[0] == "always"]
    assert len(always) == 3
    assert all(caught is not None for _, caught, _, _ in always)
    honest = [one for one in first if not one[0]]
    assert len(honest) == 90
    assert all(caught is None for _, caught, _, _ in honest)


def test_the_page_has_the_simulations_names() -> None:
    from tests.lab.layout import repository_root

    page = (repository_root() / "docs/verify.md").read_text()
    for kind in ratings_year._KINDS:
        assert f"| {kind} |" in page
