# SPDX-License-Identifier: GPL-2.0-or-later
"""Real upstream packages, each built on two nodes: the same bytes, or the reason why not.

`make test-upstream` runs it, and writes the table in docs/verify.md.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import User
from tests.integration.upstream_packages import UPSTREAM
from tests.lab.layout import Lab, LabError, repository_root
from tests.lab.srpm import Recipe

pytestmark = [pytest.mark.lab, pytest.mark.slow]
BUILDERS = ("other",)

DIFFER: dict[str, str] = {}
"""Packages that two builds of are not the same file, and why."""


@pytest.fixture(scope="module")
def reproducible(builders: User) -> User:
    for remote in ("local", "other"):
        file = builders.config.remote_file.with_name(f"{remote}.toml")
        file.write_text(file.read_text().replace("[build]", "[build]\nreproducible = true"))
    return builders


@pytest.fixture(scope="module")
def rows() -> Iterator[list[str]]:
    """Lines of the table, which is written if all are there."""
    lines = ["| package | | packages | level | if not L0, why |", "|---|---|---|---|---|"]
    yield lines
    if os.environ.get("MOCK_CLOUD_WRITE_UPSTREAM") and len(lines) == len(UPSTREAM) + 2:
        page = repository_root() / "docs/verify.md"
        head, mark, rest = page.read_text().partition("<!-- upstream: `make test-upstream` -->\n")
        _, end, tail = rest.partition("<!-- end of upstream -->\n")
        assert mark and end
        page.write_text(f"{head}{mark}{chr(10).join(lines)}\n{end}{tail}")


@pytest.mark.parametrize("name", UPSTREAM)
def test_two_nodes_build_an_upstream_package_alike(
    name: str, lab: Lab, reproducible: User, lab_srpm: Callable[[Recipe], Path],
    rows: list[str], tmp_path: Path,
) -> None:  # fmt: skip
    package, user = UPSTREAM[name], reproducible
    try:
        recipe = package.make(lab)
    except LabError as error:
        pytest.skip(f"{name}: {error}")
    srpm = lab_srpm(recipe)
    places = [tmp_path / "local", tmp_path / "other"]
    nodes = set()
    for place in places:
        user.mock("--remote", place.name, "--resultdir", place, srpm).expect()
        nodes |= set(re.findall(r"host key (\S+)", user.cloud("verify", place).expect().stdout))
    assert len(nodes) == 2, "both were built on one node"

    compared = json.loads(user.cloud("compare", *places, "--json").expect().stdout)
    levels = {row["package"]: row["level"] for row in compared}
    for part in package.leaves:
        assert any(part in one for one in levels), (part, sorted(levels))
    assert set(levels.values()) == ({"L0"} if name not in DIFFER else {"L1"}), compared
    for one, level in levels.items():
        same = (places[0] / one).read_bytes() == (places[1] / one).read_bytes()
        assert same == (level == "L0"), one
    version = srpm.name.removesuffix(".src.rpm").removeprefix(f"{name}-").partition("-")[0]
    reached = ", ".join(sorted(set(levels.values())))
    why = DIFFER.get(name, "")
    rows.append(f"| {name} {version} | {package.kind} | {len(levels)} | {reached} | {why} |")
