# SPDX-License-Identifier: GPL-2.0-or-later
"""The control group of a job: what the kernel counts there, and that no group is left."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mock_cloud.wire import syscalls
from mock_cloud.wire.memory_group import MemoryGroup, find_v1, find_v2, open_group, sweep_groups
from tests.memory_hierarchy import hierarchy

LIMIT = 32 << 20


def in_namespace(act: Callable[[], MemoryGroup | None]) -> MemoryGroup | None:
    """What `act` returns in a thread that has a mount namespace of its own, as a job's init has."""
    found: list[MemoryGroup | None] = []

    def run() -> None:
        syscalls.unshare(syscalls.CLONE_NEWNS)
        syscalls.make_mounts_private()
        found.append(act())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


@pytest.fixture
def place() -> Iterator[Path]:
    place = hierarchy()
    yield place
    assert list(place.glob(f"mock-cloud-job-test-{os.getpid()}*")) == []


def ended(act: Callable[[], None]) -> int:
    """How a child that does this ends."""
    pid = os.fork()
    if pid == 0:
        try:
            act()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def eat() -> None:
    held = bytearray(2 * LIMIT)
    held[::4096] = b"x" * len(held[::4096])


def opened(name: str) -> MemoryGroup:
    group = in_namespace(lambda: open_group(name))
    assert group is not None
    return group


def run_in(group: MemoryGroup, act: Callable[[], None], place: Path, name: str) -> int:
    """How a process of the group ends that may take `LIMIT` bytes."""

    def enter_and_act() -> None:
        group.enter()
        (place / f"mock-cloud-job-{name}/memory.limit_in_bytes").write_text(str(LIMIT))
        act()

    return ended(enter_and_act)


def test_who_is_killed_in_the_group_is_counted_and_who_is_outside_is_not(place: Path) -> None:
    name = f"test-{os.getpid()}"
    group, other = opened(name), opened(f"{name}-other")
    assert run_in(other, lambda: None, place, f"{name}-other") == 0
    assert run_in(group, eat, place, name) == -signal.SIGKILL
    assert (group.kills(), other.kills()) == (1, 0)
    group.close()
    other.close()


def test_a_kill_in_a_group_that_the_job_made_is_found(place: Path) -> None:
    name = f"test-{os.getpid()}"
    group = opened(name)

    def eat_below() -> None:
        below = place / f"mock-cloud-job-{name}/below"
        below.mkdir()
        (below / "cgroup.procs").write_text("0")
        eat()

    assert run_in(group, eat_below, place, name) == -signal.SIGKILL
    assert group.kills()
    group.close()


def test_a_group_whose_last_process_ended_is_not_swept_before_it_was_asked(place: Path) -> None:
    """A job that begins beside it sweeps: it said nothing of a job that was killed for memory."""
    name = f"test-{os.getpid()}"
    group = opened(name)
    assert run_in(group, eat, place, name) == -signal.SIGKILL
    sweep_groups()
    assert group.kills() == 1
    group.close()


def test_a_job_that_moves_itself_out_is_not_called_killed_for_memory(place: Path) -> None:
    """It hides its own death: nobody else's is put down to it, and nothing is left."""
    name = f"test-{os.getpid()}"
    group = opened(name)

    def leave() -> None:
        (place / "cgroup.procs").write_text("0")
        os.kill(os.getpid(), signal.SIGKILL)

    assert run_in(group, leave, place, name) == -signal.SIGKILL
    assert group.kills() == 0
    group.close()


def test_a_group_that_was_removed_tells_nothing(place: Path) -> None:
    name = f"test-{os.getpid()}"
    group = opened(name)
    assert run_in(group, lambda: None, place, name) == 0
    (place / f"mock-cloud-job-{name}").rmdir()
    assert group.kills() is None
    group.close()


def test_what_a_killed_job_left_is_swept_and_what_has_a_process_is_not(place: Path) -> None:
    name = f"test-{os.getpid()}"
    left, used = (place / f"mock-cloud-job-{name}{end}" for end in ("-left", ""))
    with contextlib.suppress(FileNotFoundError):  # another node's job may sweep at any time
        (left / "below").mkdir(parents=True)

    pid = os.fork()
    if pid == 0:
        while True:
            with contextlib.suppress(OSError):
                used.mkdir(exist_ok=True)
                (used / "cgroup.procs").write_text("0")
                break
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    os.waitpid(pid, os.WUNTRACED)
    sweep_groups()
    assert (left.exists(), used.exists()) == (False, True)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    sweep_groups()
    assert not used.exists()


def test_a_group_that_is_swept_all_the_time_can_be_had(place: Path) -> None:
    name = f"test-{os.getpid()}"

    def sweep_on() -> None:
        while True:
            sweep_groups()

    sweeper = os.fork()
    if sweeper == 0:
        sweep_on()
    try:
        for _ in range(50):
            group = opened(name)
            assert run_in(group, lambda: None, place, name) == 0
            assert group.kills() == 0
            group.close()
    finally:
        os.kill(sweeper, signal.SIGKILL)
        os.waitpid(sweeper, 0)


def test_version_1_without_a_hierarchy_of_limits_is_not_used(tmp_path: Path) -> None:
    below = tmp_path / "a/b"
    below.mkdir(parents=True)
    assert find_v1(str(tmp_path), "/a/b") == str(below)
    (below / "memory.use_hierarchy").write_text("0\n")
    assert find_v1(str(tmp_path), "/a/b") is None
    assert find_v1(str(tmp_path), "/gone") is None


def test_version_2_is_used_where_children_have_a_controller(tmp_path: Path) -> None:
    below = tmp_path / "user.slice/user-0.slice/session-1.scope"
    below.mkdir(parents=True)
    path = "/user.slice/user-0.slice/session-1.scope"
    for directory, words in ((tmp_path, "cpu memory"), (below.parent.parent, "cpu"), (below, "")):
        (directory / "cgroup.subtree_control").write_text(f"{words}\n")
    assert find_v2(str(tmp_path), path) == str(tmp_path)
    (below.parent / "cgroup.subtree_control").write_text("memory pids\n")
    assert find_v2(str(tmp_path), path) == str(below.parent)
    assert find_v2(str(tmp_path), "/../../elsewhere") is None
