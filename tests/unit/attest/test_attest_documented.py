# SPDX-License-Identifier: GPL-2.0-or-later
"""Each code of a refusal is explained, and no other; docs/ say the same of them as the command."""

from __future__ import annotations

import ast
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mock_cloud.attest.reason_codes import Explanation, explanations
from mock_cloud.cli import main
from tests.lab.layout import repository_root

PACKAGE = repository_root() / "mock_cloud"
DOCS = repository_root() / "docs"
_BEGIN = "<!-- codes: written by `make codes` -->\n"
_END = "<!-- end of codes -->\n"
_SUBJECTS = (
    "agent|base|connection|evidence|file|kernel|layer|login|manifest|mount|node|owner|package"
    "|policy|process|provenance|result|socket|toolkit"
)
_CODE = re.compile(rf"(?:{_SUBJECTS})\.[a-z]+(?:-[a-z]+)*")
_NO_CODES = {"evidence.jsonl"}  # a file
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
    places = ("attest", "images", "provenance", "remote", "steps")
    modules = [path for place in places for path in PACKAGE.glob(f"{place}/**/*.py")]
    modules = [path for path in modules if path.name != "reason_codes.py"]
    return {code for path in modules for code in _constants(path)} - _NO_CODES


def test_each_code_is_explained_and_each_explanation_has_a_code() -> None:
    explained = [one.code for one in explanations()]
    assert len(explained) == len(set(explained)), "two explanations of one code"
    assert set(explained) == _codes()


def test_each_explanation_is_short_and_whole() -> None:
    for one in explanations():
        for text in (one.seen, one.means, one.do):
            assert text and len(text) <= 240, (one.code, text)
            assert "|" not in text and not text.endswith("."), (one.code, text)


def _to_markdown(page: list[Explanation]) -> str:
    """A table for each section, under its heading where there are several; a row for each group."""
    lines: list[str] = []
    sections = dict.fromkeys(one.section for one in page)
    for section in sections:
        if len(sections) > 1:
            lines += [f"### {section}", ""]
        lines += ["| code | seen | may mean | what to do |", "|---|---|---|---|"]
        groups: dict[frozenset[str], list[Explanation]] = {}
        for one in page:
            if one.section == section:
                groups.setdefault(frozenset((one.code, *one.also)), []).append(one)
        for alike in groups.values():
            codes = ", ".join(f"`{one.code}`" for one in alike)
            seen = "; ".join(one.seen for one in alike)
            lines.append(f"| {codes} | {seen} | {alike[0].means} | {alike[0].do} |")
        lines.append("")
    return "\n".join(lines)


@pytest.mark.parametrize("page", ["troubleshooting.md", "verify.md"])
def test_the_documents_have_the_same_table(page: str) -> None:
    path = DOCS / page
    before, begin, rest = path.read_text().partition(_BEGIN)
    table, end, after = rest.partition(_END)
    assert begin and end, f"{path} has no place for the codes"
    of_results = page == "verify.md"
    chosen = [one for one in explanations() if (one.section == "Results") == of_results]
    wanted = f"\n{_to_markdown(chosen)}\n"
    if os.environ.get("MOCK_CLOUD_WRITE_CODES"):
        path.write_text(f"{before}{begin}{wanted}{end}{after}")
    else:
        assert table == wanted, "make codes"


def test_a_code_is_explained_without_a_remote(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["attest", "--explain", "file.mode"]) == 0
    page = capsys.readouterr().out
    assert page.startswith("file.mode\n") and "file.owner" in page and page.count("\n") == 5
    assert main(["attest", "--explain", "file.mode", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["code"] == "file.mode"


def test_all_codes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["attest", "--list-codes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [one.code for one in explanations()]
    assert main(["attest", "--list-codes", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == len(lines)


@pytest.mark.parametrize(
    ("code", "hint"), [("file.digset", "file.digest"), ("x\u202e.y", "--list-codes"), ("", "list")]
)
def test_what_is_no_code_is_said(code: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["attest", "--explain", code]) == 5
    said = capsys.readouterr().err
    assert "no refusal has the code" in said and hint in said and "\u202e" not in said


def test_a_code_or_a_remote_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["local", "--explain", "file.mode"], ["--explain", "x", "--list-codes"]):
        assert main(["attest", *words]) == 5
        assert "ERROR" in capsys.readouterr().err
