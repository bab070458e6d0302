# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine that is measured to be described is measured anew while something of it passes."""

from __future__ import annotations

from typing import Any, cast

import pytest

from mock_cloud.attest import still_booting
from mock_cloud.errors import AttestationRefused, Reason
from mock_cloud.images import candidate
from mock_cloud.images.candidate import ImageCandidate

PASSING = Reason("login.witness", "/usr/bin/sh", "only known programs", "ran when sshd read it")
LASTING = Reason("file.digest", "/usr/bin/sh", "as signed", "other")


class Candidate(ImageCandidate):
    """One whose boot may take `patience_s`, and whose measurements are numbers."""

    patience_s = 0.0

    @property
    def _patience_s(self) -> float:
        return self.patience_s

    def _judge(self, measured: Any, manifest: Any) -> Any:
        return f"judged {measured} by {manifest}"


def settle(refusals: list[Reason], patience_s: float = 0.0, first: int | None = None) -> Any:
    """What comes of measurements of which the first ones are refused."""
    made = Candidate(*cast(Any, (None, None, "image", "")))
    type(made).patience_s = patience_s
    numbers = iter(range(1, 10))

    def describe(measured: Any) -> Any:
        if refusals:
            raise AttestationRefused("not yet", reasons=(refusals.pop(0),))
        return f"manifest {measured}", "report"

    return made._settle(lambda: cast(Any, next(numbers)), describe, cast(Any, first))


@pytest.fixture(autouse=True)
def in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidate, "_PAUSE_S", 0.0)
    monkeypatch.setattr(still_booting, "_HANG_UP_S", 600.0)


def test_what_passes_is_waited_for() -> None:
    """Without a boot to wait for, too: a login that ends has its time."""
    assert settle([PASSING, PASSING]) == ("manifest 3", "report", "judged 3 by manifest 3")


def test_a_measurement_that_is_there_is_the_first() -> None:
    assert settle([], first=7) == ("manifest 7", "report", "judged 7 by manifest 7")
    assert settle([PASSING], first=7)[0] == "manifest 1"


def test_what_lasts_is_not() -> None:
    refusals = [PASSING, LASTING, PASSING]
    with pytest.raises(AttestationRefused):
        settle(refusals, patience_s=600.0)
    assert refusals == [PASSING]
