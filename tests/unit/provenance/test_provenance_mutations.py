# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud verify` accepts honest results and refuses each that was spoiled in one way."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mock_cloud.cli import main
from tests.mutations.cases import ALL, Case, scratch_of
from tests.mutations.honest import can_build, fingerprint, make_results, owner_signature

pytestmark = pytest.mark.skipif(not can_build(), reason="needs rpmbuild")


def test_honest_results_are_accepted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = make_results(tmp_path / "results")
    assert main(results.argv()) == 0
    out = capsys.readouterr().out
    assert out.startswith("verified: 2 packages, built on an attested node (tier 1) at ")
    assert "verdict: recomputed from the evidence: the same\n" in out
    assert main([*results.argv(), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["verified"], found["recomputed"], found["owner"]) == (True, True, "ada")


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_spoiled_results_are_refused(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = make_results(tmp_path / "results")
    case.spoil(results)
    assert main([*results.argv(), "--json"]) == case.code
    said = capsys.readouterr()
    if case.code != 77:
        assert case.reason in said.err
        return
    found = json.loads(said.out)
    assert found["verified"] is False
    assert any(code.startswith(case.reason) and (not case.subject or subject == case.subject)
               for code, subject, _, _ in found["reasons"]), found  # fmt: skip


def test_a_scratch_build_is_accepted_where_it_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = make_results(tmp_path / "results")
    results.sign(scratch_of(results))
    results.words = ("--scratch",)
    assert main(results.argv()) == 0
    assert capsys.readouterr().out.startswith("verified (a scratch build): 2 packages")
    results.words, results.policy = ("--json",), "scratch = true"
    assert main(results.argv()) == 0
    assert json.loads(capsys.readouterr().out)["scratch"] is True


def test_what_the_owner_signed_too_is_accepted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = make_results(tmp_path / "results")
    results.owner_signature = owner_signature(results)
    results.sign()
    results.policy = f'owner_signed = true\nowner_keys = ["{fingerprint("owner")}"]\n'
    assert main(results.argv()) == 0
    assert f"owner signed with: {fingerprint('owner')}\n" in capsys.readouterr().out
    results.words = ("--json",)
    assert main(results.argv()) == 0
    assert json.loads(capsys.readouterr().out)["owner_key"] == fingerprint("owner")


def test_names_of_the_cases_are_different() -> None:
    assert len({case.name for case in ALL}) == len(ALL) >= 40


@pytest.mark.parametrize("verb", ["verify", "compare"])
def test_neither_clouds_nor_ssh_are_loaded(verb: str, tmp_path: Path) -> None:
    results = make_results(tmp_path / "results")
    words = (
        results.argv() if verb == "verify" else ["compare", str(results.place), str(results.place)]
    )
    script = (
        "import sys; from mock_cloud.cli import main; code = main(sys.argv[1:]);"
        "print(*sorted({'paramiko', 'libcloud', 'mock_cloud.remote', 'mock_cloud.cloud'}"
        " & sys.modules.keys())); raise SystemExit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *words], check=True, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == ""
