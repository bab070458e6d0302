# SPDX-License-Identifier: GPL-2.0-or-later
"""A second of fuzzing for each parser of foreign bytes; `make fuzz` does it for minutes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.parsers import PARSERS
from tests.fuzz.run import FUZZING, try_one


@pytest.mark.parametrize("name", sorted(PARSERS))
def test_what_it_raises_is_what_it_says(name: str) -> None:
    @settings(FUZZING, max_examples=60, derandomize=True)
    @given(st.data())
    def fuzz(data: st.DataObject) -> None:
        try_one(PARSERS[name], data)

    fuzz()


@pytest.mark.parametrize("name", sorted(PARSERS))
def test_what_is_good_is_read(name: str) -> None:
    """Else only the first check would be tried."""
    PARSERS[name].check_seed()
