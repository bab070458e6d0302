# SPDX-License-Identifier: GPL-2.0-or-later
"""The same build by two builders: published if they agree, else kept apart and flagged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.conftest import Ended, User
from tests.lab.srpm import Recipe, random_toy

pytestmark = pytest.mark.lab

LabSrpm = Callable[[Recipe], Path]
BUILDERS = ("other", "judge")


def duplicate(user: User, resultdir: Path, srpm: Path, *words: str) -> Ended:
    return user.cloud(
        "duplicate", "--remote", "local", "--remote", "other", "--resultdir", resultdir, *words,
        "--", *user.mocks, str(srpm),
    )  # fmt: skip


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.slow
def test_what_both_agree_on_is_published(builders: User, plain_srpm: Path, tmp_path: Path) -> None:
    ended = duplicate(builders, tmp_path / "r", plain_srpm).expect()
    print(ended.stderr)
    assert "remotes local and other agree on 2 packages" in ended.stderr
    assert "toy-plain-1-1.lab1.noarch.rpm" in names(tmp_path / "r")
    assert not [name for name in names(tmp_path / "r") if name.startswith((".mock", "disagreed"))]
    builders.cloud("verify", tmp_path / "r").expect()
    rows = {
        row["builder"]: row for row in json.loads(builders.cloud("trust", "list", "--json").stdout)
    }
    assert rows["local:local"]["agreements"] == rows["local:other"]["agreements"] == 1


@pytest.mark.slow
def test_a_build_that_fails_on_both_fails(
    builders: User, failing_srpm: Path, tmp_path: Path
) -> None:
    ended = duplicate(builders, tmp_path / "r", failing_srpm)
    assert ended.code == builders.mock("--resultdir", tmp_path / "one", failing_srpm).code != 0
    assert "both builds failed alike" in ended.stderr
    assert "build.log" in names(tmp_path / "r")


def test_what_they_do_not_agree_on_is_kept_apart(
    builders: User, lab_srpm: LabSrpm, tmp_path: Path
) -> None:
    srpm = lab_srpm(random_toy())
    ended = duplicate(builders, tmp_path / "r", srpm, "--judge", "judge").expect(76)
    print(ended.stderr)
    assert "judge agrees with neither" in ended.stderr
    (apart,) = names(tmp_path / "r")
    for name in ("local", "other", "judge"):
        builders.cloud("verify", tmp_path / "r" / apart / name).expect()
    shown = json.loads(builders.cloud("trust", "list", "--json").expect().stdout)
    flagged = {row["builder"]: row["flags"] for row in shown if row["rating"] == "flagged"}
    assert flagged.keys() == {"local:local", "local:other"}
    assert "/usr/share/toy-random/word" in builders.cloud("trust", "show", "local:other").stdout
    assert (
        duplicate(builders, tmp_path / "again", srpm).expect(75).stderr.count("gets no work") == 2
    )
    for (number,) in flagged.values():
        builders.cloud(
            "trust", "resolve", str(number), "--cleared", "--reason", "it is random"
        ).expect()


def test_a_wrong_command_line_builds_nothing(
    builders: User, plain_srpm: Path, tmp_path: Path
) -> None:
    for words, said in (
        (("--remote", "local"), "two different remotes"),
        (("--judge", "other"), "another one as a judge"),
    ):
        ended = duplicate(builders, tmp_path / "r", plain_srpm, *words).expect(5)
        assert said in ended.stderr
    ended = builders.cloud("duplicate", "--remote", "local", "--remote", "other", "--resultdir",
                      tmp_path / "r", "--", *builders.options[:4], "--init").expect(5)  # fmt: skip
    assert "only packages can be compared" in ended.stderr
    assert not (tmp_path / "r").exists()


@pytest.mark.slow
def test_the_command_line_and_the_remotes_file_ask_for_duplicates(
    builders: User, plain_srpm: Path, lab_srpm: LabSrpm, tmp_path: Path
) -> None:
    path = builders.config.remote_file
    before = path.read_text()
    path.write_text(before + '\n[audit]\nremotes = ["other"]\n')
    ended = builders.mock("--duplicate", "2", "--resultdir", tmp_path / "r", plain_srpm).expect()
    assert "remotes local and other agree on 2 packages" in ended.stderr
    builders.cloud("verify", tmp_path / "r").expect()
    policy = tmp_path / "policy.toml"
    for count, code in ((1, 0), (2, 77)):
        policy.write_text(f"agreed = {count}\n")
        builders.cloud("verify", tmp_path / "r", "--policy", policy).expect(code)
    said = builders.mock("--duplicate", "3", "--resultdir", tmp_path / "r", plain_srpm).expect(75)
    assert "3 builders of different owners are wanted, and there are 2" in said.stderr
    path.write_text(before + '\n[audit]\nremotes = ["other", "judge"]\n')
    ended = builders.mock(
        "--duplicate", "3", "--resultdir", tmp_path / "three", plain_srpm
    ).expect()
    assert "agree on 2 packages" in ended.stderr
    builders.cloud("verify", tmp_path / "three", "--policy", policy).expect()

    path.write_text(before + '\n[audit]\nduplicates = 2\nremotes = ["other"]\n')
    srpm = lab_srpm(random_toy())
    ended = builders.mock("--resultdir", tmp_path / "random", srpm).expect(76)
    assert "who differs is flagged" in ended.stderr
    (apart,) = names(tmp_path / "random")
    assert names(tmp_path / "random" / apart) == ["local", "other"]
    path.write_text(before)
