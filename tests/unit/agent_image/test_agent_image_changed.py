# SPDX-License-Identifier: GPL-2.0-or-later
"""When a node is to be rebooted: what of its packages counts as changed."""

from __future__ import annotations

import pytest

from mock_cloud.agent.image.install import has_changed

BEFORE = {"bash.x86_64": {"5.2-1"}, "kernel-core.x86_64": {"6.1-1"}, "glibc.x86_64": {"2.41-1"}}


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        ({}, False),
        ({"patch.x86_64": {"2.8-1"}}, False),
        ({"glibc.i686": {"2.41-1"}}, False),
        ({"bash.x86_64": {"5.2-2"}}, True),
        ({"bash.x86_64": {"5.1-9"}}, True),
        ({"bash.x86_64": set()}, True),
        # A new kernel replaces none, and is the one that the image boots.
        ({"kernel-core.x86_64": {"6.1-1", "6.2-1"}}, True),
    ],
)
def test_what_was_there_before_counts_and_what_is_new_does_not(
    change: dict[str, set[str]], changed: bool
) -> None:
    after = {name: versions for name, versions in (BEFORE | change).items() if versions}
    assert has_changed(BEFORE, after) is changed
