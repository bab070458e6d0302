# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs that the kernel starts as root by itself, beyond those of `kernel`.

Found by what calls call_usermodehelper_setup() in Linux 6.18. Those with a fixed path (request-key,
bridge-stp, critical_overtemp …) are files like any other.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from typing import Any, Final

from mock_cloud.agent.measure import kernelfs, procfs

_SETTINGS: Final = {
    "drbd.usermode_helper": "/sys/module/drbd/parameters/usermode_helper",
    "firmware_class.path": "/sys/module/firmware_class/parameters/path",
    "machinecheck.trigger": "/sys/devices/system/machinecheck/machinecheck*/trigger",
    "nfs.cache_getent": "/sys/module/nfs/parameters/cache_getent",
    "nfsd.cltrack_prog": "/sys/module/nfsd/parameters/cltrack_prog",
    "ocfs2.hb_ctl_path": "/proc/sys/fs/ocfs2/nm/hb_ctl_path",
    "uvesafb.v86d": "/sys/bus/platform/drivers/uvesafb/v86d",
}
"""Where a path can be set, by name; firmware_class's is of directories that firmware comes from."""


def measure_helpers() -> dict[str, Any]:
    """The protocol's `helpers` object. `release_agents` is None where nothing may be mounted."""
    try:
        agents = kernelfs.in_own_namespace(lambda: list(_release_agents()))
    except OSError:
        agents = None
    return {"release_agents": agents, "programs": sorted(_programs())}


def _programs() -> Iterator[list[str]]:
    for name, pattern in _SETTINGS.items():
        for path in glob.glob(pattern):
            try:
                yield [name, os.fsdecode(procfs.read_bounded(path)).rstrip("\n")]
            except OSError:
                continue  # not readable, as some parameters are not


def _release_agents() -> Iterator[list[str | None]]:
    """Each hierarchy of cgroups version 1, mounted or not, and its release agent.

    None for the agent: this is a cgroup namespace, from which it cannot be seen. OSError.
    """
    for line in os.fsdecode(procfs.read_bounded("/proc/self/cgroup")).splitlines():
        number, words, _ = line.split(":", 2)
        if number == "0":
            continue  # version 2 has none
        options = words if not words.startswith("name=") else f"none,{words}"
        with kernelfs.mounted("cgroup", options) as place:
            try:
                text = procfs.read_bounded(os.path.join(place, "release_agent"))
            except FileNotFoundError:
                yield [words, None]
            else:
                yield [words, os.fsdecode(text).rstrip("\n")]
