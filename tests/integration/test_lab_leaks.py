# SPDX-License-Identifier: GPL-2.0-or-later
"""The leak guard sees what it is there to see."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.lab import leaks

pytestmark = pytest.mark.lab


def test_nothing_left_is_nothing_found() -> None:
    before = leaks.snapshot()
    subprocess.run(["true"], check=True)
    assert leaks.find_leaks(before, grace_s=0) == []


def test_thread() -> None:
    before = leaks.snapshot()
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="left-over")
    thread.start()
    try:
        assert leaks.find_leaks(before, grace_s=0) == ["thread left-over"]
    finally:
        stop.set()
        thread.join()


def test_daemon_that_left_its_parent(tmp_path: Path) -> None:
    before = leaks.snapshot()
    script = f"setsid sleep 60 </dev/null >/dev/null 2>&1 & echo $! > {tmp_path}/pid"
    subprocess.run(["sh", "-c", script], check=True)
    pid = int((tmp_path / "pid").read_text())
    time.sleep(0.1)
    try:
        assert leaks.find_leaks(before, grace_s=0) == [f"process {pid}: sleep 60 "]
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)  # it was adopted


def test_what_lasts_as_long_as_the_session_is_none() -> None:
    before = leaks.snapshot()
    script = "sleep 60 & echo $!; wait"
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        leaks.lasting.add(process.pid)
        try:
            assert leaks.find_leaks(before, grace_s=0) == []
        finally:
            leaks.lasting.discard(process.pid)
            os.kill(child, 9)  # ends the shell, too


@pytest.mark.skipif(os.geteuid() != 0, reason="interfaces need root")
def test_interface() -> None:
    before = leaks.snapshot()
    name = f"lab{os.getpid()}n0"
    subprocess.run(["ip", "link", "add", name, "type", "veth"], check=True)
    try:
        assert leaks.find_leaks(before, grace_s=0) == [f"interface {name}"]
    finally:
        subprocess.run(["ip", "link", "delete", name], check=True)


def test_network_namespace() -> None:
    before = leaks.snapshot()
    with Path("/proc/self/ns/net").open():
        (found,) = leaks.find_leaks(before, grace_s=0)
        assert found.startswith("network namespace net:[")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_mount(tmp_path: Path) -> None:
    """Seen by its own pytest, and not by one whose directory is beside it."""
    before, own = leaks.snapshot(), leaks.snapshot(tmp_path.parent)
    beside = leaks.snapshot(tmp_path.parent.with_name("beside"))
    subprocess.run(["mount", "-t", "tmpfs", "none", str(tmp_path)], check=True)
    try:
        assert leaks.find_leaks(before, grace_s=0) == [f"mount {tmp_path}"]
        assert leaks.find_leaks(own, grace_s=0) == [f"mount {tmp_path}"]
        assert leaks.find_leaks(beside, grace_s=0) == []
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
