# SPDX-License-Identifier: GPL-2.0-or-later
"""Which processes of our own toolkit may run on a node, told by their exact command lines.

That they run verified code, untouched, in the node's own namespaces, is checked of them as of
every other process.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum

from mock_cloud.attest.evidence import Process
from mock_cloud.errors import Reason
from mock_cloud.model import Toolkit
from mock_cloud.wire.layout import DEADMAN, LAUNCH, SERVE, WORKSPACE


class Role(Enum):
    """What a process of the toolkit is, and the words that start it."""

    AGENT = (SERVE,)
    LAUNCHER = (LAUNCH, "--workspace", WORKSPACE)
    DEAD_MAN = (DEADMAN, "--workspace", WORKSPACE)


def find_role(process: Process, toolkit: Toolkit) -> Role | None:
    """What `process` is of this toolkit; None for anything else."""
    for role in Role:
        argv = toolkit.argv(*role.value)
        if process.exe == argv[0] and process.cmdline == tuple(argv):
            return role
    return None


def check_dead_man(processes: Iterable[Process], toolkit: Toolkit) -> Iterator[Reason]:
    """At most one, root's, and nobody's child: else it is not the one that an agent left behind."""
    found = [one for one in processes if find_role(one, toolkit) is Role.DEAD_MAN]
    for process in found:
        who = f"pid {process.pid} {process.exe}"
        if process.ppid != 1:
            yield Reason("process.parent", who, "a child of pid 1", f"of pid {process.ppid}")
        if (process.uid, process.gid) != (0, 0):
            yield Reason("process.owner", who, "0:0", f"{process.uid}:{process.gid}")
    for process in found[1:]:
        who = f"pid {process.pid} {process.exe}"
        yield Reason("process.duplicate", who, "one dead-man", "another")
