# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud trust`: what people see of the ledger, and what they may say."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mock_cloud.cli import main
from mock_cloud.errors import CloudError
from mock_cloud.ledger.entries import EventKind, LedgerEvent
from mock_cloud.ledger.store import Ledger
from mock_cloud.model import HostKey
from mock_cloud.settings import AttestSettings, HostSettings, Remote
from mock_cloud.steps.lease.builders import find_flagged, name_host, without_flagged
from tests.mutations.cases import ONE, _flip
from tests.mutations.honest import Results, can_build, make_results

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "state/mock-cloud").mkdir(parents=True)
    return Ledger(tmp_path / "state/mock-cloud")


@pytest.fixture
def run(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> Run:
    def act(*words: str) -> tuple[int, str, str]:
        code = main(["trust", *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return act


def test_an_empty_ledger_is_one(run: Run) -> None:
    assert run("list", "--json") == (0, "[]\n", "")
    assert run("check")[:2] == (0, "unchanged: 0 entries; 0 builders are flagged\n")


def test_a_flag_is_shown_and_resolved_once(run: Run, ledger: Ledger) -> None:
    ledger.append(LedgerEvent(EventKind.BUILT, "host:a", 1, job="j"))
    assert run("flag", "host:a", "--reason", "odd library")[0] == 0
    code, out, _ = run("list")
    assert code == 0 and "host:a   flagged  1" in out
    assert "odd library" in run("show", "2")[1]
    assert run("resolve", "1", "--cleared", "--reason", "x")[0] == 50
    assert run("resolve", "2", "--guilty", "--reason", "it was")[0] == 0
    code, _, err = run("resolve", "2", "--cleared", "--reason", "no")
    assert code == 50 and "resolved before" in err
    (row,) = json.loads(run("list", "--json")[1])
    assert (row["rating"], row["flags"], row["builds"]) == ("new", [], 1)
    assert [one["event"]["kind"] for one in json.loads(run("show", "host:a", "--json")[1])] == [
        "built", "flagged", "guilty",
    ]  # fmt: skip


def test_nothing_is_resolved_without_a_reason_and_an_outcome(run: Run) -> None:
    assert run("resolve", "1", "--cleared")[0] == 5
    assert run("resolve", "1", "--reason", "x")[0] == 5


def test_a_ledger_that_was_cut_is_told_by_an_export(
    run: Run, ledger: Ledger, tmp_path: Path
) -> None:
    ledger.append(
        *[LedgerEvent(EventKind.BUILT, "host:a", 1, job=str(number)) for number in range(3)]
    )
    kept = tmp_path / "kept"
    assert run("export", "--output", str(kept))[0] == 0
    ledger.append(LedgerEvent(EventKind.BUILT, "host:a", 1))
    assert run("check", "--against", str(kept))[0] == 0
    for path in ledger.path.parent.glob("ledger.*"):
        path.unlink()
    ledger.append(*[LedgerEvent(EventKind.BUILT, "host:b", 1) for number in range(9)])
    assert run("check")[0] == 0
    code, _, err = run("check", "--against", str(kept))
    assert code == 77 and "entry 1 is not that of" in err


def remote(*keys: bytes) -> Remote:
    hosts = tuple(
        HostSettings(
            f"h{number}", "192.0.2.1", "ada", "x86_64", host_key=HostKey("ssh-ed25519", key)
        )
        for number, key in enumerate(keys)
    )
    return Remote("lent", "ssh", ("x86_64",), AttestSettings(None, (), ()), hosts=hosts)


def test_a_flagged_builder_gets_no_work(run: Run, ledger: Ledger) -> None:
    both = remote(b"one", b"two")
    first, second = both.hosts
    assert without_flagged(both) is both
    run("flag", name_host(first), "--reason", "x")
    assert without_flagged(both).hosts == (second,)
    run("flag", name_host(second), "--reason", "y")
    with pytest.raises(CloudError, match="until a person") as refused:
        without_flagged(both)
    assert "trust resolve 1" in str(refused.value.hint)
    run("resolve", "2", "--cleared", "--reason", "fine")
    assert without_flagged(both).hosts == (second,)
    assert find_flagged(ledger) == {name_host(first): 1}
    account = replace(both, hosts=(), provider="ec2")
    run("flag", "ec2:lent", "--reason", "z")
    with pytest.raises(CloudError):
        without_flagged(account)


@pytest.fixture
def two(tmp_path: Path) -> tuple[Results, Results]:
    if not can_build():
        pytest.skip("needs rpmbuild")
    made = [make_results(tmp_path / name) for name in ("a", "b")]
    for one, builder, owner in zip(made, ("host:a", "host:b"), ("ada", "bob"), strict=True):
        one.builder, one.owner = builder, owner
        one.sign()
    return made[0], made[1]


def record(run: Run, two: tuple[Results, Results]) -> tuple[int, str, str]:
    keys = [word for one in two for key in one.keys for word in ("--keys", str(key))]
    return run("record", *keys, *(str(one.place) for one in two))


def test_two_that_agree_are_noted_once(run: Run, two: tuple[Results, Results]) -> None:
    assert record(run, two)[0] == 0
    rows = {row["builder"]: row for row in json.loads(run("list", "--json")[1])}
    assert rows["host:a"]["agreements"] == rows["host:b"]["agreements"] == 1
    code, _, err = record(run, two)
    assert code == 50 and "already" in err


def test_two_that_do_not_agree_are_both_flagged(
    run: Run, two: tuple[Results, Results], ledger: Ledger
) -> None:
    two[1].change(ONE, lambda data: data.replace(b"Built to be spoiled", b"Built to be trojan!"))
    two[1].sign()
    code, _, err = record(run, two)
    assert code == 1 and "do not agree" in err
    assert find_flagged(ledger) == {"host:a": 1, "host:b": 2}
    assert two[1].provenance().results[ONE] in run("show", "2")[1]


def test_what_cannot_be_compared_is_not_noted(
    run: Run, two: tuple[Results, Results], ledger: Ledger
) -> None:
    left, right = two
    right.builder = "host:a"
    right.sign()
    assert "cannot judge itself" in record(run, two)[2]
    right.builder, right.owner = "host:b", "ada"
    right.sign()
    assert "both machines are ada's" in record(run, two)[2]
    right.owner = "bob"
    found = right.provenance()
    right.sign(replace(found, asked=replace(found.asked, options=("--without=tests",))))
    assert "options" in record(run, two)[2]
    source = replace(found.dependencies[0], digest={"sha256": "2" * 64})
    right.sign(replace(found, dependencies=(source,)))
    assert "one source" in record(run, two)[2]
    right.sign()
    left.change(ONE, _flip(-20))
    code, _, err = record(run, two)
    assert code == 77 and "result.changed" in err
    assert ledger.read() == []
