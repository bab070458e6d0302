# SPDX-License-Identifier: GPL-2.0-or-later
"""The memory hierarchy of control groups that this machine has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def hierarchy() -> Path:
    """Where this machine has the group of this process, seen from outside of what is tested."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, words, path = line.split(":", 2)
        if words == "memory":
            place = Path(f"/sys/fs/cgroup/memory{path}")
            if os.access(place, os.W_OK) and (place / "memory.oom_control").exists():
                return place
    pytest.skip("needs root, and a memory hierarchy of cgroups version 1")
