# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests put their files where $TMPDIR says: a /tmp may be a tmpfs, be small, or be another's."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.lab.layout import repository_root

TESTS = repository_root() / "tests"
# What makes a file, or names one of this machine's, by its first argument or by `dir`.
_MAKERS = frozenset({"Path", "open", "mkdir", "makedirs"})
_FIXED = re.compile(r"/(var/)?tmp(/|$)")
# A file, and why.
_REASONS = {
    "lab/keys.py": "the name of gpg-agent's socket has 107 characters at most",
    "screens.py": "it is in the pictures",
}


def _fixed(tree: ast.AST) -> list[int]:
    """The lines of calls that name a place for temporary files themselves."""
    found = []
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call):
            continue
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        values = [one.value for one in call.keywords if one.arg == "dir"]
        if name in _MAKERS:
            values += call.args[:1]
        texts = [one.value for one in values if isinstance(one, ast.Constant)]
        found += [call.lineno for one in texts if isinstance(one, str) and _FIXED.match(one)]
    return found


@pytest.mark.parametrize(
    ("code", "lines"),
    [
        ("tempfile.mkdtemp(dir='/tmp')", [1]),
        ("Path('/var/tmp/x').write_text('')", [1]),
        ("x = 1\nopen('/tmp/x')", [2]),
        ("tempfile.mkdtemp(prefix='x-')\nPath('/tmpfs')", []),
    ],
)
def test_a_fixed_place_is_seen(code: str, lines: list[int]) -> None:
    assert _fixed(ast.parse(code)) == lines


def test_no_test_has_a_place_of_its_own_for_temporary_files() -> None:
    found = {
        f"{path.relative_to(TESTS)}:{line}"
        for path in TESTS.rglob("*.py")
        if path != Path(__file__) and str(path.relative_to(TESTS)) not in _REASONS
        for text in [path.read_text()]
        if "/tmp" in text
        for line in _fixed(ast.parse(text))
    }
    assert not found
    for name in _REASONS:
        assert _fixed(ast.parse((TESTS / name).read_bytes())), f"{name}: its reason has gone"
