# SPDX-License-Identifier: GPL-2.0-or-later
"""[build] reproducible: two nodes, two days, the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.conftest import User
from tests.lab.srpm import Recipe, toy

pytestmark = pytest.mark.lab
BUILDERS = ("other",)

# Its file is as old as the build, and says where and when it was built.
TIMELY = toy(
    "toy-timely",
    install="(date +%Z; echo $LANG) > %{buildroot}%{_datadir}/toy-timely/facts",
    rest="%changelog\n* Tue Nov 14 2023 Lab <lab@lab.invalid> - 1-1\n- Packaged for the lab\n\n",
)


def built(user: User, remote: str, srpm: Path, place: Path) -> dict[str, bytes]:
    user.mock("--remote", remote, "--resultdir", place, srpm).expect()
    return {path.name: path.read_bytes() for path in place.glob("*.rpm")}


@pytest.mark.slow
def test_two_nodes_build_the_same_bytes(
    builders: User,
    lab_srpm: Callable[[Recipe], Path],
    tmp_path: Path,
) -> None:
    srpm = lab_srpm(TIMELY)
    plain = [built(builders, name, srpm, tmp_path / f"plain-{name}") for name in ("local", "other")]
    assert plain[0].keys() == plain[1].keys()
    assert plain[0] != plain[1]
    for name in ("local", "other"):
        file = builders.config.remote_file.with_name(f"{name}.toml")
        file.write_text(file.read_text().replace("[build]", "[build]\nreproducible = true"))
    same = [built(builders, name, srpm, tmp_path / name) for name in ("local", "other")]
    assert len(same[0]) == 2
    assert same[0] == same[1]
    said = builders.cloud("compare", tmp_path / "local", tmp_path / "other").expect().stdout
    assert "L0 2" in said
