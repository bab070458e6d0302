# SPDX-License-Identifier: GPL-2.0-or-later
"""What runs: processes, the kernel, mounts, namespaces and listening sockets."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from mock_cloud.agent.measure import (
    helpers,
    hidden,
    kernel,
    mounts,
    opening,
    processes,
    procfs,
    sockets,
)
from mock_cloud.agent.measure.walk import Unreadable, errno_name


@dataclass(slots=True)
class LiveFacts:
    """The parts of the evidence that only a running system has; empty by default."""

    mounts: list[mounts.Mount] = field(default_factory=list)
    namespaces: dict[str, dict[str, int]] = field(default_factory=lambda: {"init": {}, "self": {}})
    processes: list[processes.Process] = field(default_factory=list)
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
    facts.hidden_pids = hidden.find_hidden(mounts.read_mounts("self"))
    facts.kernel = kernel.measure_kernel()
    facts.helpers = helpers.measure_helpers()
    return facts


def _root_identity(path: str) -> tuple[int, int, int]:
    """Which directory, on which mount, a root is."""
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        facts = os.fstat(fd)
        return opening.mount_id(fd), facts.st_dev, facts.st_ino
    finally:
        os.close(fd)
