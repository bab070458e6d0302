# SPDX-License-Identifier: GPL-2.0-or-later
"""When a command may rely on the last command's verdict."""

from dataclasses import replace

import pytest

from mock_cloud.cloud.lease import LastVerdict

NOW = 1000.0
REACHED = LastVerdict("ab" * 32, NOW - 60, "basis", "boot")


def covers(verdict: LastVerdict, *, made_anew: bool = False, max_age_s: float = 120) -> bool:
    return verdict.covers("one", made_anew=made_anew, now_unix=NOW, max_age_s=max_age_s)


@pytest.mark.parametrize("made_anew", [False, True])
def test_a_young_verdict_covers_any_chroot(made_anew: bool) -> None:
    assert covers(REACHED, made_anew=made_anew)


@pytest.mark.parametrize("age_s", [120, 500, -1])
def test_neither_an_old_one_nor_one_of_the_future(age_s: float) -> None:
    assert not covers(replace(REACHED, measured_unix=NOW - age_s))


def test_no_age_is_young_enough_where_each_command_measures() -> None:
    assert not covers(replace(REACHED, measured_unix=NOW), max_age_s=0)


def test_a_node_without_verdict_has_none() -> None:
    assert not covers(LastVerdict(measured_unix=NOW))


def test_after_foreign_code_only_the_same_chroot_goes_on() -> None:
    """What left its chroot must not get at another one, or at the next one of that name."""
    assert covers(replace(REACHED, foreign=("one",)))
    assert not covers(replace(REACHED, foreign=("one",)), made_anew=True)
    assert not covers(replace(REACHED, foreign=("other",)))
    assert not covers(replace(REACHED, foreign=("one", "other")))
