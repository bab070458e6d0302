# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/troubleshooting.md has an entry for each code of a refusal, and none for any other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.lab.layout import repository_root

PACKAGE = repository_root() / "mock_cloud"
PAGE = repository_root() / "docs/troubleshooting.md"
_SUBJECTS = (
    "agent|base|connection|evidence|file|kernel|layer|login|manifest|mount|node|package|policy"
    "|process|socket|toolkit"
)
_CODE = re.compile(rf"(?:{_SUBJECTS})\.[a-z]+(?:-[a-z]+)*")
_OF_FILES = ("file", "toolkit")
# What `f"{code}.{what}"` in check_files is made of.
_OF_DIFFERENCES = ("digest", "target", "device", "capabilities", "xattr")


def _constants(path: Path) -> Iterator[str]:
    """Codes in the strings of a module, and those that f-strings make."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if _CODE.fullmatch(node.value):
                yield node.value
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Reason":
            code = node.args[0] if node.args else None
            if not isinstance(code, ast.JoinedStr):
                continue
            assert path.name == "check_files.py", f"{path}: codes must be found by this test"
            last = code.values[-1]
            fixed = isinstance(last, ast.Constant)
            ends = (str(last.value)[1:],) if isinstance(last, ast.Constant) else _OF_DIFFERENCES
            assert len(code.values) == 2 if fixed else len(code.values) == 3
            yield from (f"{subject}.{end}" for subject in _OF_FILES for end in ends)


def _codes() -> set[str]:
    modules = [
        path for place in ("attest", "session", "remote") for path in PACKAGE.glob(f"{place}/*.py")
    ]
    return {code for path in modules for code in _constants(path)}


def _entries() -> list[str]:
    """The codes in the first column of the page's tables."""
    rows = re.findall(r"^\| ((?:`[a-z.-]+`(?:, )?)+) \|", PAGE.read_text(), re.M)
    return [code for row in rows for code in re.findall(r"`([a-z.-]+)`", row) if "." in code]


def test_each_code_has_an_entry_and_each_entry_a_code() -> None:
    entries = _entries()
    assert len(entries) == len(set(entries)), "two entries of one code"
    assert set(entries) == _codes()
