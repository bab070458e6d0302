# SPDX-License-Identifier: GPL-2.0-or-later
"""What scratch builds spared other remotes, by the ledger, and `trust saved` that tells it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mock_cloud.cli import main
from mock_cloud.ledger.ratings import Rules, rate
from mock_cloud.ledger.scratch import note_scratch, sum_savings
from mock_cloud.ledger.store import Ledger


def test_failed_builds_are_what_was_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    ledger = Ledger(tmp_path / "mock-cloud")
    (tmp_path / "mock-cloud").mkdir()
    for seconds, has_failed in ((10.4, True), (99.0, False), (5.0, True)):
        ledger.append(note_scratch("lent", "release", seconds, 1, has_failed=has_failed))
    ledger.append(note_scratch("lent", "other", 7, 1, has_failed=False))
    assert [(one.then, one.builds, one.failed, one.failed_s)
            for one in sum_savings(ledger.read())] == [
        ("release", 3, 2, 15), ("other", 1, 0, 0)
    ]  # fmt: skip
    assert rate(ledger.read(), Rules(), 2) == {}
    assert main(["trust", "saved"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == [
        "lent", "release", "3", "2", "15", "s",
    ]  # fmt: skip
    assert main(["trust", "saved", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0] == {
        "scratch": "lent", "then": "release", "builds": 3, "failed": 2, "failed_s": 15
    }  # fmt: skip
