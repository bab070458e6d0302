# SPDX-License-Identifier: GPL-2.0-or-later
"""hw_info.log: what mock's plugin of that name shows, read from /proc instead of spawning."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

_CPU_FIELDS: Final = ("vendor_id", "model name", "cpu family", "model", "stepping", "flags")
_MEMORY_FIELDS: Final = ("MemTotal", "MemFree", "MemAvailable", "SwapTotal", "SwapFree")


def describe(places: Sequence[str]) -> str:
    """CPU, memory, and the file systems of the directories `places`, as text."""
    uname = os.uname()
    cpu = [f"Architecture: {uname.machine}", f"Kernel: {uname.release}"]
    cpu.append(f"CPU(s): {os.cpu_count()}")
    facts = _first_values("/proc/cpuinfo")
    cpu += [f"{name}: {facts[name]}" for name in _CPU_FIELDS if name in facts]
    memory = _first_values("/proc/meminfo")
    lines = [f"{name}: {memory[name]}" for name in _MEMORY_FIELDS if name in memory]
    storage = ["Filesystem size, free and free inodes:"]
    for place in places:
        facts_of = os.statvfs(place)
        total = facts_of.f_frsize * facts_of.f_blocks
        free = facts_of.f_frsize * facts_of.f_bavail
        storage.append(f"{place}: {total} bytes, {free} bytes, {facts_of.f_favail}")
    sections = (
        ("CPU info:", cpu),
        ("Memory:", lines),
        ("Storage (chroot, workspace):", storage),
    )
    return "\n\n".join("\n".join((title, *body)) for title, body in sections) + "\n"


def _first_values(path: str) -> dict[str, str]:
    values: dict[str, str] = {}
    with open(path, encoding="utf-8", errors="replace") as stream:
        for line in stream:
            name, separator, value = line.partition(":")
            if separator:
                values.setdefault(name.strip(), value.strip())
    return values
