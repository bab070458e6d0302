# SPDX-License-Identifier: GPL-2.0-or-later
"""What runs: processes, the kernel, mounts, namespaces and listening sockets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mock_cloud.agent.measure import mounts
from mock_cloud.agent.measure.walk import Unreadable


@dataclass(slots=True)
class LiveFacts:
    """The parts of the evidence that only a running system has; empty by default."""

    mounts: list[mounts.Mount] = field(default_factory=list)
    namespaces: dict[str, dict[str, int]] = field(default_factory=lambda: {"init": {}, "self": {}})
    processes: list[dict[str, Any]] = field(default_factory=list)
    hidden_pids: list[int] = field(default_factory=list)
    kernel: dict[str, Any] = field(default_factory=dict)
    sockets: list[list[str | int]] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {
            "mounts": [mount.as_json() for mount in self.mounts],
            "namespaces": self.namespaces,
            "processes": self.processes,
            "hidden_pids": self.hidden_pids,
            "kernel": self.kernel,
            "sockets": self.sockets,
        }


def measure_live(own_workers: frozenset[int]) -> LiveFacts:
    """The running system. `own_workers` are our own measuring processes, left out."""
    return LiveFacts(mounts=mounts.read_mounts(1))
