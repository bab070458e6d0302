# SPDX-License-Identifier: GPL-2.0-or-later
"""Attacks on controller and node, each with what comes of it."""

import pytest

# Before its first import: some tests import it, and have its fixtures as a plugin too.
pytest.register_assert_rewrite("tests.attack.attacked_node")
