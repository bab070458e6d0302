# SPDX-License-Identifier: GPL-2.0-or-later
"""Root on a node before the verdict who leaves something to the kernel to do later."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mock_cloud.agent.measure import kernelfs
from mock_cloud.agent.measure.kernel import measure_kernel
from tests.attack.attacked_node import AttackedNode

pytest_plugins = ["tests.component.cloud_fixtures", "tests.attack.attacked_fixtures"]
FROM = "node before the verdict"
HIERARCHY = "mock-cloud-attack"
OPTIONS = f"none,name={HIERARCHY}"


def _hierarchies() -> str:
    return Path("/proc/self/cgroup").read_text()


@contextmanager
def _hierarchy_removed() -> Iterator[None]:
    """No hierarchy is left afterwards: the machine's other users share its kernel."""
    if " cgroup\n" not in Path("/proc/filesystems").read_text().replace("\t", " "):
        pytest.skip("needs a kernel with cgroups of version 1")
    try:
        yield
    finally:
        deadline = time.monotonic() + 30
        while HIERARCHY in _hierarchies():
            assert time.monotonic() < deadline, f"the hierarchy {HIERARCHY} does not go"
            kernelfs.in_own_namespace(_empty)
            time.sleep(0.1)


def _empty() -> None:
    with kernelfs.mounted("cgroup", OPTIONS) as place:
        Path(place, "release_agent").write_text("\n")
        for group in Path(place).iterdir():
            if group.is_dir():
                group.rmdir()


@pytest.mark.slow  # every local node of this machine is refused meanwhile
@pytest.mark.attack(
    FROM, "a release agent in a hierarchy of cgroups that is not mounted", "refused"
)
def test_a_release_agent_that_waits(attacked: AttackedNode, tmp_path: Path) -> None:
    fired, agent = tmp_path / "fired", tmp_path / "agent"
    agent.write_text(f"#!/bin/sh\nid -u > {fired}\n")
    agent.chmod(0o755)
    mount = f"mkdir -p /dev/shm/c; mount -t cgroup -o {OPTIONS} none /dev/shm/c"
    unmount = "umount /dev/shm/c; rmdir /dev/shm/c"
    attacked.attest()
    with _hierarchy_removed():
        attacked.do(f"{mount}; echo {agent} > /dev/shm/c/release_agent; mkdir /dev/shm/c/x")
        attacked.do(f"echo 1 > /dev/shm/c/x/notify_on_release; {unmount}")
        found = attacked.refusals()
        assert found == {"kernel.release-agent": {f"name={HIERARCHY}"}}
        # It is no idle threat: the kernel starts it, as root of the node's host.
        attacked.do(f"{mount}; sh -c 'echo $$ > /dev/shm/c/x/cgroup.procs'; {unmount}")
        deadline = time.monotonic() + 10
        while not (fired.exists() and fired.read_text()):
            assert time.monotonic() < deadline, "the kernel did not start the release agent"
            time.sleep(0.05)
        assert fired.read_text() == "0\n"
    attacked.attest()


@pytest.mark.attack(FROM, "a probe in a program's text, whose file system is not mounted", "seen")
def test_a_probe_that_nothing_mounted_shows() -> None:
    """Tried on this machine's own kernel: what a node defines, its host has, too."""
    if "tracefs" not in Path("/proc/filesystems").read_text():
        pytest.skip("needs a kernel with tracefs")
    program = Path("/bin/true").resolve()

    def define(line: str) -> None:
        with kernelfs.mounted("tracefs") as place:
            events = os.open(f"{place}/uprobe_events", os.O_WRONLY | os.O_APPEND)
            try:
                os.write(events, f"{line}\n".encode())
            finally:
                os.close(events)

    mounts = Path("/proc/self/mounts").read_text()  # systemd mounts it itself
    try:
        kernelfs.in_own_namespace(lambda: define(f"p:mock_cloud/attack {program}:0x1000"))
    except OSError as error:
        pytest.skip(f"needs a kernel that lets root define probes of programs: {error}")
    try:
        assert Path("/proc/self/mounts").read_text() == mounts
        seen = measure_kernel()["kprobes"]
        assert any("mock_cloud/attack" in one for one in seen)
    finally:
        kernelfs.in_own_namespace(lambda: define("-:mock_cloud/attack"))
    assert not any("mock_cloud/attack" in one for one in measure_kernel()["kprobes"])
