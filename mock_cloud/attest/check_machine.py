# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether the node is a machine: its first process is the kernel's own, and in no container.

Root of whoever holds a container reads and changes all that is in it, and nothing of that holder
is measured. The first namespaces of a kernel have inode numbers that are part of its ABI: enum
init_ns_ino of include/uapi/linux/nsfs.h, before Linux 6.18 in include/linux/proc_ns.h. Those of
mount and network have one only since 6.18, and are not asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mock_cloud.attest.evidence import Evidence
from mock_cloud.errors import Reason

_FIRST: Final = {
    "cgroup": 4026531835,
    "ipc": 4026531839,
    "pid": 4026531836,
    "time": 4026531834,
    "user": 4026531837,
    "uts": 4026531838,
}
_KTHREADD: Final = 2


def check_machine(evidence: Evidence) -> Iterator[Reason]:
    """``node.container`` for each namespace of the first process that is not the kernel's first.

    A kernel without a kind of namespace (older, or built so) has none to be in, and names none.
    """
    for name, first in _FIRST.items():
        found = evidence.init_namespaces.get(name, first)
        if found != first:
            yield Reason(
                "node.container", f"{name} namespace", f"the kernel's, {first}", str(found)
            )
    if not any(one.pid == _KTHREADD and one.kernel for one in evidence.processes):
        yield Reason("node.container", "pid 2", "kthreadd, a thread of the kernel", "not there")
