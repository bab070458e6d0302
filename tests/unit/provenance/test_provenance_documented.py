# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/verify.md has each code of a refusal of results, and no other; and each key of a policy."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import fields

import pytest

from mock_cloud.provenance.requirements import Requirements, read_requirements
from tests.lab.layout import repository_root

PACKAGE = repository_root() / "mock_cloud/provenance"
PAGE = (repository_root() / "docs/verify.md").read_text()
CODE = re.compile(r"(?:evidence|provenance|result)\.[a-z]+(?:-[a-z]+)*")


def _codes() -> Iterator[str]:
    for path in PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield from (word for word in [node.value] if CODE.fullmatch(word))


def test_each_code_has_an_entry_and_each_entry_a_code() -> None:
    files = {"evidence.jsonl"}
    rows = re.findall(r"^\| ((?:`[a-z.-]+`(?:, )?)+) \|", PAGE, re.M)
    entries = [code for row in rows for code in re.findall(r"`([a-z.-]+)`", row)]
    assert sorted(entries) == sorted(set(_codes()) - files)


def test_the_policy_that_is_shown_is_one(tmp_path: pytest.TempPathFactory) -> None:
    shown = re.search(r"### A policy\n\n```toml\n(.*?)```", PAGE, re.S)
    assert shown
    key = "SHA256:" + "A" * 43
    path = tmp_path / "policy.toml"  # type: ignore[operator]
    path.write_text(shown[1].replace("SHA256:…", key).replace('["…"]', '["00"]'))
    found = read_requirements(path)
    assert found.expires == {key: 1798848000}
    assert all(re.search(rf"^\[?{one.name}\b", shown[1], re.M) for one in fields(Requirements))
