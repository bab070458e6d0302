# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a dnf.conf has every package's signature checked."""

from __future__ import annotations

import pytest

from mock_cloud.config.repositories import are_signed

_ONE = "[one]\nbaseurl=http://a/\n"


@pytest.mark.parametrize(
    ("text", "signed"),
    [
        (f"[main]\ngpgcheck=1\n{_ONE}", True),
        (f"[main]\n{_ONE}gpgcheck=True\n", True),
        (f"[main]\ngpgcheck=1\n{_ONE}gpgcheck=0\n", False),
        (f"[main]\n{_ONE}", False),
        (_ONE, False),
        (f"[main]\ngpgcheck=1\n{_ONE}gpgcheck=no\nenabled=0\n", True),
        (f"[main]\ngpgcheck=1\n{_ONE}[two]\nbaseurl=http://b/\ngpgcheck=off\n", False),
    ],
)
def test_each_enabled_repository_counts(text: str, signed: bool) -> None:
    assert are_signed(text, {}, ()) is signed


def test_a_repository_that_is_switched_on_counts() -> None:
    text = f"[main]\ngpgcheck=1\n{_ONE}gpgcheck=0\nenabled=0\n"
    assert are_signed(text, {}, ())
    assert not are_signed(text, {}, (("--enablerepo", "o*"),))
