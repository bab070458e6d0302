# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests of local nodes share: a remote, OpenSSH's client, and a look for leaks."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mock_cloud.cloud.claim import LeaseRequest
from mock_cloud.cloud.lease import LastVerdict
from mock_cloud.cloud.leased import LeasedNode
from mock_cloud.cloud.local.files import NodeFacts, find_facts
from mock_cloud.cloud.pool import acquire
from mock_cloud.settings import AttestSettings, LeaseLimits, LocalSettings, Remote

FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Site:
    """One state directory, and the image that its nodes boot."""

    state_dir: Path
    image: Path

    def remote(self, *, disk_mib: int = 0, **limits: float) -> Remote:
        return Remote(
            name="lab",
            provider="local",
            arches=("x86_64",),
            attest=AttestSettings(Path("/nowhere"), (), ()),
            lease=LeaseLimits(**limits),  # type: ignore[arg-type]
            local=LocalSettings(self.image, disk_mib=disk_mib),
        )

    def load(self, name: str) -> Remote:
        raise AssertionError("a local node is given back without its remote's file")

    def acquire(
        self,
        chroot: str = "one",
        deadline_s: float = 30.0,
        *,
        discards: bool = False,
        shares: bool = False,
        **limits: float,
    ) -> LeasedNode:
        return acquire(
            self.remote(**limits),
            LeaseRequest(chroot, "x86_64", discards=discards, shares=shares),
            state_dir=self.state_dir,
            deadline_s=deadline_s,
        )

    def facts(self, lease_id: str) -> NodeFacts:
        facts = find_facts(self.state_dir / "nodes" / lease_id)
        assert facts is not None
        return facts

    def nodes(self) -> list[str]:
        directory = self.state_dir / "nodes"
        return sorted(item.name for item in directory.iterdir()) if directory.exists() else []

    def ssh(self, node: LeasedNode, command: str) -> str:
        """The output of `command` on the node, by OpenSSH's own client, host key pinned."""
        done = self.try_ssh(node, command)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def try_ssh(self, node: LeasedNode, command: str) -> subprocess.CompletedProcess[str]:
        host, port = node.address.host, node.address.port
        known = self.state_dir / "known_hosts"
        pattern = host if port == 22 else f"[{host}]:{port}"
        known.write_text(f"{pattern} {node.address.host_key}\n")
        key = self.state_dir / "keys" / node.lease_id
        options = ["-F", "none", "-i", str(key), "-p", str(port), "-o", "BatchMode=yes"]
        options += ["-o", "StrictHostKeyChecking=yes", "-o", f"UserKnownHostsFile={known}"]
        options += ["-o", "IdentitiesOnly=yes", "-o", "ConnectTimeout=5"]
        argv = ["ssh", *options, f"{node.address.user}@{host}", command]
        return subprocess.run(argv, capture_output=True, text=True, timeout=600, check=False)


def eventually(condition: Callable[[], bool], timeout_s: float = 300.0) -> None:
    """Fails if `condition` does not come true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def host_traces(state_dir: Path) -> list[str]:
    """What a node could leave on the host: mounts and loop devices of its files.

    Those of this state directory only: other tests may run at the same time.
    """
    loops = subprocess.run(["losetup", "-a"], capture_output=True, text=True, check=True).stdout
    lines = Path("/proc/self/mountinfo").read_text().splitlines() + loops.splitlines()
    return [line for line in lines if str(state_dir) in line]


def supervisors(state_dir: Path) -> list[int]:
    """Processes whose open files or root lie below the state directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            files = [str(item.readlink()) for item in (entry / "fd").iterdir()]
        except OSError:
            continue
        if any(file.startswith(f"{state_dir}/nodes/") for file in files):
            found.append(int(entry.name))
    return found


def in_child(work: Callable[[], None]) -> int:
    """Starts `work` in a process of its own, as another controller."""
    child = FORK.Process(target=work)
    child.start()
    assert child.pid is not None
    return child.pid


def killed(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


@dataclass
class Other:
    """Another command, in a process of its own: the node's holder, then told what to do."""

    pid: int
    place: Path

    def end(self, how: str) -> None:
        (self.place / "order").write_text(how)
        assert os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]) == 0


def holding(site: Site, place: Path, *, job: str = "job-1", shares: bool = False) -> Other:
    """A process that works in the chroot one, and lets others in beside `job`."""
    place.mkdir()

    def hold() -> None:
        node = site.acquire("one", shares=shares)
        node.record_verdict(LastVerdict("ab"))
        if job:
            node.let_others_in(job)
        (place / "ready").touch()
        eventually((place / "order").exists)
        order = (place / "order").read_text()
        if order == "fail":
            node.destroy()
            return
        if node.leave(foreign=order == "foreign") is not None:
            node.record_layers({"/holder": "aa"})
        node.release(keep=True)

    pid = in_child(hold)
    eventually((place / "ready").exists)
    return Other(pid, place)
