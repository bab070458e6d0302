# SPDX-License-Identifier: GPL-2.0-or-later
import fcntl
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from mock_cloud.cloud.lease import Holder
from mock_cloud.cloud.local.files import (
    NodeFacts,
    end_process,
    find_facts,
    is_supervised,
    read_tail,
    remove_tree,
    wait_until,
    write_facts,
)


def test_facts_are_read_back(tmp_path: Path) -> None:
    for init in (None, Holder(7, "boot/3")):
        facts = NodeFacts("me@here:0", Holder.me(), init)
        write_facts(tmp_path, facts)
        assert find_facts(tmp_path) == facts
    assert [item.name for item in tmp_path.iterdir()] == ["node.json"]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"owner": "a", "supervisor": ["1", "x"], "init": null}']
)
def test_damaged_facts_are_none(tmp_path: Path, text: str) -> None:
    assert find_facts(tmp_path) is None
    (tmp_path / "node.json").write_text(text)
    assert find_facts(tmp_path) is None


def test_a_node_is_supervised_while_its_lock_is_held(tmp_path: Path) -> None:
    assert not is_supervised(tmp_path)
    with (tmp_path / "lock").open("w") as lock:
        assert not is_supervised(tmp_path)
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert is_supervised(tmp_path)
    assert not is_supervised(tmp_path)


def test_only_the_very_process_is_ended() -> None:
    child = subprocess.Popen(["sleep", "60"])
    holder = Holder.of(child.pid)
    assert holder is not None
    end_process(replace(holder, started="another-boot/1"), signal.SIGKILL)
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.1)
    end_process(holder, signal.SIGKILL)
    assert child.wait(5) == -signal.SIGKILL
    end_process(holder, signal.SIGKILL)


def test_the_console_is_bounded_and_harmless(tmp_path: Path) -> None:
    assert read_tail(tmp_path) == ""
    console = tmp_path / "console.log"
    console.write_bytes(b"x" * 10_000 + b"one\r\ntwo\x1b[2J\xff\n")
    tail = read_tail(tmp_path)
    assert tail.endswith("one\ntwo\\x1b[2J\ufffd\n")
    assert len(tail) < 4100


def test_removing_spares_what_links_point_to(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("")
    node = tmp_path / "node"
    node.mkdir()
    (node / "link").symlink_to(kept)
    for _ in range(2):
        remove_tree(node)
        assert not node.exists()
    assert (kept / "file").exists()


def test_waiting_ends_at_its_deadline() -> None:
    assert wait_until(lambda: True, 0)
    assert not wait_until(lambda: False, 0.02)
