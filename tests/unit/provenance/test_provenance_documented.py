# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/verify.md has each key of a policy; its codes are held by test_attest_documented."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest

from mock_cloud.provenance.requirements import Requirements, read_requirements
from tests.lab.layout import repository_root

PAGE = (repository_root() / "docs/verify.md").read_text()


def test_the_policy_that_is_shown_is_one(tmp_path: pytest.TempPathFactory) -> None:
    shown = re.search(r"### A policy\n\n```toml\n(.*?)```", PAGE, re.S)
    assert shown
    key = "SHA256:" + "A" * 43
    path = tmp_path / "policy.toml"  # type: ignore[operator]
    path.write_text(shown[1].replace("SHA256:…", key).replace('["…"]', '["00"]'))
    found = read_requirements(path)
    assert found.expires == {key: 1798848000}
    assert all(re.search(rf"^\[?{one.name}\b", shown[1], re.M) for one in fields(Requirements))
