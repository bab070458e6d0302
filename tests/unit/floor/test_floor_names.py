# SPDX-License-Identifier: GPL-2.0-or-later
"""One name, one meaning: a traceback and a search lead to one module."""

from __future__ import annotations

from tests.lab.layout import repository_root
from tests.size import names_twice


def test_no_public_name_is_defined_in_two_modules() -> None:
    assert [name for name, why in names_twice(repository_root()).items() if not why] == []
