# SPDX-License-Identifier: GPL-2.0-or-later
"""What is built on a scratch remote never counts; what succeeds there is built again elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.conftest import User

pytestmark = [pytest.mark.lab, pytest.mark.slow]

BUILDERS = ("release",)


@pytest.fixture
def scratch(builders: User) -> User:
    """Its remote `local` is a scratch remote, whose good builds are for the remote `release`."""
    path = builders.config.remote_file
    text = path.read_text()
    if "scratch" not in text:
        path.write_text(text.replace("[remote]\n", "[remote]\nscratch = true\n"))
    return builders


def jobs(user: User) -> int:
    return sum(node["builds"] for node in user.nodes() if node["remote"] == "release")


def test_scratch_builds_do_not_count(scratch: User, plain_srpm: Path, tmp_path: Path) -> None:
    scratch.mock("--resultdir", tmp_path / "r", plain_srpm).expect()
    assert (tmp_path / "r/toy-plain-1-1.lab1.noarch.rpm").exists()
    refused = scratch.cloud("verify", tmp_path / "r").expect(77)
    assert "provenance.scratch" in refused.stdout
    scratch.cloud("verify", tmp_path / "r", "--scratch").expect()


def test_what_succeeds_is_built_again_and_only_that_is_published(
    scratch: User, plain_srpm: Path, failing_srpm: Path, tmp_path: Path
) -> None:
    before = jobs(scratch)
    words = ("--then", "release", "--resultdir", tmp_path / "r")
    failed = scratch.mock(*words, failing_srpm).expect(1)
    assert "remote release was spared this build" in failed.stderr
    left = sorted(path.name for path in (tmp_path / "r").iterdir())
    assert "build.log" in left
    assert not [name for name in left if name.startswith(".mock") or name.endswith(".rpm")]
    assert jobs(scratch) == before

    scratch.mock(*words, plain_srpm).expect()
    scratch.cloud("verify", tmp_path / "r").expect()
    assert jobs(scratch) == before + 1
    assert not list((tmp_path / "r").glob(".mock*"))
    (saved,) = json.loads(scratch.cloud("trust", "saved", "--json").expect().stdout)
    assert (saved["builds"], saved["failed"]) == (2, 1)
    scratch.cloud("trust", "check").expect()


def test_what_cannot_be_built_again_builds_nothing(
    scratch: User, plain_srpm: Path, tmp_path: Path
) -> None:
    words = ("--resultdir", tmp_path / "r", plain_srpm)
    scratch.mock("--then", "nothing", *words).expect(3)
    scratch.mock("--then", "local", *words).expect(3)
    scratch.mock("--then", "release", "--detach", *words).expect(5)
    scratch.mock("--then", "release", "--init").expect(5)
    assert not (tmp_path / "r").exists()
