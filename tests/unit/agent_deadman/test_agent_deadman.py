# SPDX-License-Identifier: GPL-2.0-or-later
"""The dead-man's decisions, its orders, and how it removes trees."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from mock_cloud.agent.deadman.end_node import empty
from mock_cloud.agent.deadman.process import OrderRefused, Timer
from mock_cloud.wire.decode import Malformed, decode, to_json
from mock_cloud.wire.orders import DeadmanOrder, Ending

RAW = {"lease": "a1", "life_s": 100, "grace_s": 10, "ending": "poweroff"}
ORDER = DeadmanOrder("a1", 100, 10, Ending.POWEROFF)


def test_an_order_survives_its_way() -> None:
    assert decode(DeadmanOrder, json.loads(to_json(ORDER))) == ORDER


@pytest.mark.parametrize(
    "change",
    [
        {"lease": ""},
        {"lease": "x" * 65},
        {"lease": "a\nb"},
        {"lease": 1},
        {"life_s": 0},
        {"life_s": 1.5},
        {"life_s": True},
        {"life_s": 1 << 40},
        {"grace_s": 0},
        {"grace_s": "9"},
        {"ending": "halt"},
        {"ending": None},
        {"more": 1},
    ],
)
def test_what_is_no_order_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        decode(DeadmanOrder, RAW | change)


@pytest.mark.parametrize("raw", [None, [], "order", {}])
def test_only_an_object_is_an_order(raw: Any) -> None:
    with pytest.raises(Malformed):
        decode(DeadmanOrder, raw)


def test_silence_for_the_grace_is_the_end() -> None:
    timer = Timer(ORDER, 1000.0)
    assert timer.find_due(1009.9) is None
    assert timer.find_due(1010.0) == "no controller was heard of for 10 s"


def test_signs_of_life_move_the_grace_but_never_the_end_of_the_lease() -> None:
    timer = Timer(ORDER, 1000.0)
    for second in range(1000, 1100, 5):
        timer.hear(float(second))
        assert timer.find_due(float(second)) is None
        assert timer.left_s(float(second)) == min(10.0, 1100.0 - second)
    timer.hear(1099.9)
    assert timer.find_due(1100.0) == "the lease is over"


def test_an_order_renews_and_shortens() -> None:
    timer = Timer(ORDER, 1000.0)
    timer.renew(DeadmanOrder("a1", 300, 200, Ending.WIPE), 1050.0)
    assert timer.find_due(1249.0) is None
    assert timer.order.ending is Ending.WIPE
    timer.renew(DeadmanOrder("a1", 1, 200, Ending.WIPE), 1060.0)
    assert timer.find_due(1060.9) is None
    assert timer.find_due(1061.0) == "the lease is over"


def test_another_lease_has_to_wait_for_the_end_of_this_one() -> None:
    timer = Timer(ORDER, 1000.0)
    with pytest.raises(OrderRefused, match="leased as a1, for 6 s more"):
        timer.renew(DeadmanOrder("b2", 1, 1, Ending.POWEROFF), 1004.0)
    assert timer.find_due(1005.5) is None
    assert timer.order == ORDER


def test_trees_of_any_depth_are_removed_and_links_are_not_followed(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("x")
    top = tmp_path / "top"
    top.mkdir()
    here = os.open(top, os.O_RDONLY)
    depth = 2 * sys.getrecursionlimit()
    for _ in range(depth):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=below))
        os.symlink(kept, "link", dir_fd=below)
        os.close(here)
        here = below
    os.close(here)
    (top / "link").symlink_to(kept)
    os.mkfifo(top / "pipe")
    empty(str(top))
    assert list(top.iterdir()) == []
    assert (kept / "file").read_text() == "x"


def test_what_is_no_directory_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_text("x")
    (tmp_path / "link").symlink_to("there")
    empty(str(tmp_path / "link"))
    empty(str(tmp_path / "absent"))
    empty(str(tmp_path / "there" / "file"))
    assert (tmp_path / "there" / "file").read_text() == "x"
