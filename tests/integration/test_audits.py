# SPDX-License-Identifier: GPL-2.0-or-later
"""A finished build is built once more by another builder, if the draw says so; a lie is flagged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.conftest import Ended, User
from tests.lab.srpm import Recipe, random_toy

pytestmark = [pytest.mark.lab, pytest.mark.slow]

BUILDERS = ("other",)


def audit(user: User, results: Path, srpm: Path) -> Ended:
    return user.cloud("audit", results, "--remote", "other", "--", *user.mocks, srpm)


def set_rate(user: User, rate: float) -> None:
    path = user.place / "home/.config/mock/trust.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"[audits]\nnew = {rate}\n")


def agreements(user: User) -> dict[str, int]:
    rows = json.loads(user.cloud("trust", "list", "--json").expect().stdout)
    return {row["builder"]: row["agreements"] + row["disagreements"] for row in rows}


def test_audits_are_drawn_after_the_build_and_can_be_drawn_again(
    builders: User, plain_srpm: Path, lab_srpm: Callable[[Recipe], Path], tmp_path: Path
) -> None:
    for name in ("before", "passed"):
        builders.mock("--resultdir", tmp_path / name, plain_srpm).expect()
        set_rate(builders, 0.0)
        said = audit(builders, tmp_path / name, plain_srpm).expect().stderr
        if name == "before":  # the seed is newer than the build
            assert "committed to a new seed of audits" in said
            assert "audited: its seed was not committed to before the build" in said
            assert "remote other agrees on 2 packages" in said
    assert "passed over, 0." in said
    assert "of 0.0 for new builders" in said
    assert "building" not in said
    assert agreements(builders) == {"local:local": 1, "local:other": 1}
    assert "audited before" in audit(builders, tmp_path / "before", plain_srpm).expect().stderr

    set_rate(builders, 1.0)
    assert "passed over" in audit(builders, tmp_path / "passed", plain_srpm).expect().stderr
    srpm = lab_srpm(random_toy())
    builders.mock("--resultdir", tmp_path / "lie", srpm).expect()
    ended = audit(builders, tmp_path / "lie", srpm).expect(76)
    assert "audited, 0." in ended.stderr
    assert "both builders are flagged" in ended.stderr
    (kept,) = tmp_path.glob("lie-audit-*")
    builders.cloud("verify", kept / "other").expect()
    builders.cloud("verify", tmp_path / "lie").expect()

    secret = (builders.place / "state/mock-cloud/audit-seed").read_text()
    assert secret not in builders.cloud("trust", "export").expect().stdout
    builders.cloud("trust", "reveal").expect()
    assert secret in builders.cloud("trust", "export").expect().stdout
    assert builders.cloud("trust", "check").expect().stdout.startswith("unchanged: ")
    builders.cloud("trust", "reveal").expect(50)


def test_what_cannot_be_audited_builds_nothing(
    builders: User, tmp_path: Path, plain_srpm: Path
) -> None:
    builders.cloud("audit", tmp_path, "--remote", "other", "--", "--init").expect(5)
    words = (*builders.options[:4], plain_srpm)
    builders.cloud("audit", tmp_path, "--remote", "nothing", "--", *words).expect(3)
    builders.cloud("audit", tmp_path, "--remote", "other", "--", *words).expect(77)
