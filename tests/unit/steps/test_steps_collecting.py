# SPDX-License-Identifier: GPL-2.0-or-later
"""What of a result is looked for on this machine, and for whom not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mock_cloud.results.names import ManifestEntry
from mock_cloud.steps.results.collecting import _Alike
from mock_cloud.wire.chunks import WORTH_BYTES


@pytest.mark.parametrize("acts_for_a_user", [False, True])
def test_root_reads_no_paths_of_a_user_into_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, acts_for_a_user: bool
) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, which acts for a user")
    for name in ("SUDO_UID", "USERHELPER_UID"):
        monkeypatch.delenv(name, raising=False)
    if acts_for_a_user:
        monkeypatch.setenv("SUDO_UID", "1234")
    earlier, sent = tmp_path / "a-1-1.src.rpm", tmp_path / "sent/a-1-1.src.rpm"
    sent.parent.mkdir()
    for path in (earlier, sent):
        path.write_bytes(bytes(WORTH_BYTES))
    entry = ManifestEntry("a-1-1.src.rpm", WORTH_BYTES, "0" * 64)
    found = _Alike(tmp_path, [sent])(entry)
    assert found == ([] if acts_for_a_user else [earlier, sent])
