# SPDX-License-Identifier: GPL-2.0-or-later
"""Processes that exist but are not listed: what /proc shows against what else knows pids.

kill(pid, 0) answers for every pid in use, and each process is a member of control groups.
Threads answer too, so the ids in the task directories are known ids.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final

from mock_cloud.agent.measure import mounts, procfs

_PROBES_LEAST: Final = 32768
_PROBES_MOST: Final = 1 << 19  # about half a second
_BEYOND_LAST: Final = 4096


def find_hidden(table: Iterable[mounts.Mount]) -> list[int]:
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
