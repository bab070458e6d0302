# SPDX-License-Identifier: GPL-2.0-or-later
"""What the other end has already crosses no line: a package that is built again, changed."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.conftest import User
from tests.integration.faults import line_to_node
from tests.lab import srpm
from tests.lab.relay import Direction
from tests.lab.srpm import Recipe

pytestmark = pytest.mark.lab
_MIB = 1 << 20


def large(line: str, tarball: Path) -> Recipe:
    """A package of 8 MiB of sources, as little compressible as a tarball of today is."""
    return srpm.toy(
        "toy-large-source",
        preamble="BuildArch: noarch\n%global _source_payload w3.zstdio\n",  # here, too
        build=f"echo {line}",
        sources={"toy-large-source-1.tar.xz": tarball},
    )


def test_a_spec_with_another_line(
    lone_mock: User, lab_srpm: Callable[[Recipe], Path], tmp_path: Path
) -> None:
    """Neither do the sources go again, nor does the source package come that was made of them."""
    tarball = tmp_path / "tarball"
    tarball.write_bytes(random.Random(1).randbytes(8 * _MIB))  # noqa: S311 (no secret)
    first, second = (lab_srpm(large(word, tarball)) for word in ("once", "twice"))
    with line_to_node(lone_mock) as line:
        moved = []
        for number, package in enumerate((first, second)):
            before = [line.moved_bytes(way) for way in Direction]
            results = tmp_path / f"results-{number}"
            lone_mock.mock("--resultdir", results, package).expect()
            moved.append(
                [line.moved_bytes(way) - at for way, at in zip(Direction, before, strict=True)]
            )
            (made,) = results.glob("*.src.rpm")
            assert made.stat().st_size > 8 * _MIB
    up, down = (list(Direction).index(way) for way in (Direction.UP, Direction.DOWN))
    assert moved[0][up] > 8 * _MIB
    assert moved[0][down] < 4 * _MIB  # the node's evidence
    assert moved[1][up] < _MIB
    assert moved[1][down] < 2 * _MIB
