# SPDX-License-Identifier: GPL-2.0-or-later
"""What a cached archive was made of and chosen by: each change of it is noticed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mock_cloud.toolkit import origin


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "library" / "module.py"
    path.parent.mkdir()
    path.write_text("a = 1\n")
    return path


def made_of(source: Path) -> dict[str, Any]:
    """As an index has it: through JSON."""
    absent = source.parent.parent / "libextra.so"
    found: dict[str, Any] = json.loads(
        json.dumps(origin.describe_origin([source], [source.parent], [absent]))
    )
    return found


def write_keeping_times(source: Path) -> None:
    facts = source.stat()
    source.write_text("a = 2\n")
    os.utime(source, ns=(facts.st_atime_ns, facts.st_mtime_ns))


CHANGES: dict[str, Callable[[Path], object]] = {
    "written": lambda source: source.write_text("a = 22\n"),
    "written, its times set back": write_keeping_times,
    "gone": lambda source: source.unlink(),
    "another beside it": lambda source: source.with_name("other.py").touch(),
    "what was absent": lambda source: (source.parent.parent / "libextra.so").touch(),
}


def test_nothing_has_changed(source: Path) -> None:
    found = made_of(source)
    (source.parent / "__pycache__").mkdir()  # python's own, not an input
    assert origin.is_current(found)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_noticed(source: Path, change: str) -> None:
    found = made_of(source)
    CHANGES[change](source)
    try:
        assert not origin.is_current(found)
    except FileNotFoundError:
        assert change == "gone"


@pytest.mark.parametrize("key", ["product", "linker"])
def test_what_decides_is_compared(source: Path, key: str) -> None:
    found = made_of(source)
    found[key] = found[key][:-1]
    assert not origin.is_current(found)


def test_the_code_that_packs_is_known_by_its_bytes(source: Path) -> None:
    version, digest = made_of(source)["product"]
    assert version
    assert len(digest) == 64
