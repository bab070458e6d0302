# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs that a kernel starts as root by itself, and which of them a node may have set.

Nothing here is compared with a reference: a node that shares the controller's kernel could have
set it for both. The defaults are Linux 6.18's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mock_cloud.attest.files import Text
from mock_cloud.errors import Reason
from mock_cloud.wire.dataclass import dataclass

_DEFAULTS: Final = {
    "drbd.usermode_helper": "drbdadm",
    "firmware_class.path": "",
    "machinecheck.trigger": "",
    "nfs.cache_getent": "/sbin/nfs_cache_getent",
    "nfsd.cltrack_prog": "/sbin/nfsdcltrack",
    "ocfs2.hb_ctl_path": "/sbin/ocfs2_hb_ctl",
    "uvesafb.v86d": "/sbin/v86d",
}
_SYSTEMD: Final = "name=systemd"
# systemd sets it where cgroups of version 1 are its own (src/core/cgroup.c); a file of its package.
_SYSTEMD_AGENTS: Final = (
    "/lib/systemd/systemd-cgroups-agent",
    "/usr/lib/systemd/systemd-cgroups-agent",
)


@dataclass(frozen=True, slots=True)
class HelperFacts:
    """What was measured. A release agent is None where it cannot be seen: in a cgroup namespace.

    `release_agents` are of the hierarchies of cgroups version 1, by their controllers and name as
    /proc/PID/cgroup has them; None if they could not be looked at. `programs` are other settings.
    """

    release_agents: tuple[tuple[Text, Text | None], ...] | None
    programs: tuple[tuple[Text, Text], ...]


def check_helpers(facts: HelperFacts | None, *, unsafe_container: bool) -> Iterator[Reason]:
    """``kernel.release-agent``, ``kernel.helper``, ``kernel.unknown``.

    `unsafe_container`: what the node cannot see is its host's.
    """
    if facts is None or (facts.release_agents is None and not unsafe_container):
        yield Reason("kernel.unknown", "helpers", "the programs it starts", "not measured")
    for hierarchy, agent in (facts and facts.release_agents) or ():
        if agent is None and not unsafe_container:
            yield Reason("kernel.release-agent", hierarchy, "none", "it cannot be seen")
        elif agent and not (hierarchy == _SYSTEMD and agent in _SYSTEMD_AGENTS):
            yield Reason("kernel.release-agent", hierarchy, "none", agent)
    for name, program in facts.programs if facts else ():
        if program != _DEFAULTS.get(name):
            yield Reason("kernel.helper", name, _DEFAULTS.get(name, "no such setting"), program)
