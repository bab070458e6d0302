# SPDX-License-Identifier: GPL-2.0-or-later
"""What runs: processes, the kernel, mounts, namespaces and listening sockets."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import field
from typing import Any, Final

from mock_cloud.agent.measure import (
    kernel,
    mounts,
    opening,
    processes,
    procfs,
    sockets,
)
from mock_cloud.agent.measure.walk import Unreadable, errno_name
from mock_cloud.wire.dataclass import dataclass


@dataclass(slots=True)
class LiveFacts:
    """The parts of the evidence that only a running system has; empty by default."""

    mounts: list[mounts.MountEntry] = field(default_factory=list)
    namespaces: dict[str, dict[str, int]] = field(default_factory=lambda: {"init": {}, "self": {}})
    processes: list[processes.MeasuredProcess] = field(default_factory=list)
    hidden_pids: list[int] = field(default_factory=list)
    kernel: dict[str, Any] | None = None
    sockets: list[list[str | int | None]] = field(default_factory=list)
    connections: list[list[str | int | None]] = field(default_factory=list)
    helpers: dict[str, Any] | None = None
    unreadable: list[Unreadable] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {
            "mounts": [mount.as_json() for mount in self.mounts],
            "namespaces": self.namespaces,
            "processes": [process.as_json() for process in self.processes],
            "hidden_pids": self.hidden_pids,
            "kernel": self.kernel,
            "sockets": self.sockets,
            "connections": self.connections,
            "helpers": self.helpers,
        }


def measure_live(own_workers: frozenset[int]) -> LiveFacts:
    """The running system. `own_workers` are our own measuring processes, left out.

    What of process 1 cannot be read is told in `unreadable`, with its /proc path.
    """
    facts = LiveFacts()
    facts.namespaces["self"] = procfs.namespaces("self")
    try:
        facts.mounts = mounts.read_mounts(1)
        facts.namespaces["init"] = procfs.namespaces(1)
        facts.sockets = sockets.measure_sockets()
        facts.connections = sockets.measure_connections()
        if _root_identity("/") != _root_identity("/proc/1/root"):
            facts.unreadable.append(("/", "crossed"))  # we are in a chroot: its files are others
    except OSError as error:
        facts.unreadable.append(("/proc/1", errno_name(error)))
    facts.processes = processes.measure_processes(own_workers, facts.unreadable)
    facts.hidden_pids = find_hidden(mounts.read_mounts("self"))
    facts.kernel = kernel.measure_kernel()
    facts.helpers = kernel.measure_helpers()
    return facts


def _root_identity(path: str) -> tuple[int, int, int]:
    """Which directory, on which mount, a root is."""
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        facts = os.fstat(fd)
        return opening.mount_id(fd), facts.st_dev, facts.st_ino
    finally:
        os.close(fd)


# Processes that exist but are not listed: what /proc shows against what else knows pids.
# kill(pid, 0) answers for every pid in use, and each process is a member of control groups.
# Threads answer too, so the ids in the task directories are known ids.
_PROBES_LEAST: Final = 32768
_PROBES_MOST: Final = 1 << 19  # about half a second
_BEYOND_LAST: Final = 4096


def find_hidden(table: Iterable[mounts.MountEntry]) -> list[int]:
    """Pids that are in use but not in /proc. `table` says where control groups are mounted."""
    groups = [mount.point for mount in table if mount.fstype in ("cgroup", "cgroup2")]
    listed = procfs.list_pids()
    suspects = set(_answering(_limit(listed))) | _members(groups)
    suspects.difference_update(listed)
    # All suspects were there before this listing, and are there after it if not hidden.
    suspects.difference_update(_known_ids())
    if not suspects:
        return []
    members = _members(groups)
    return sorted(pid for pid in suspects if pid in members or _answers(pid))


def _limit(listed: list[int]) -> int:
    """One past the highest pid to try: all, or as far as pids were handed out of late."""
    pid_max = int(procfs.read_bounded("/proc/sys/kernel/pid_max"))
    try:
        last = int(procfs.read_bounded("/proc/sys/kernel/ns_last_pid"))
    except OSError:
        last = 0
    reach = max(last, listed[-1] if listed else 0) + _BEYOND_LAST
    return min(pid_max, max(reach, _PROBES_LEAST), _PROBES_MOST) + 1


def _answering(limit: int) -> list[int]:
    return [pid for pid in range(1, limit) if _answers(pid)]


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _known_ids() -> set[int]:
    """All processes and their threads."""
    known = set()
    for pid in procfs.list_pids():
        known.add(pid)
        try:
            known.update(procfs.list_pids(f"/proc/{pid}/task"))
        except OSError:
            continue  # it ended
    return known


def _members(groups: Iterable[str]) -> set[int]:
    """Pids in the cgroup.procs files below the directories `groups`."""
    found: set[int] = set()
    for top in groups:
        for directory, _, names in os.walk(top):
            if "cgroup.procs" not in names:
                continue
            try:
                text = procfs.read_bounded(os.path.join(directory, "cgroup.procs"))
            except OSError:
                continue  # a group that ended, or one of threads only (EOPNOTSUPP)
            found.update(map(int, text.split()))
    found.discard(0)  # stands for processes outside our pid namespace
    return found
