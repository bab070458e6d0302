# SPDX-License-Identifier: GPL-2.0-or-later
"""A job's `status.json`: where it is, and once it ended, how."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from typing import Final

KEEP_CHROOT: Final = "keep-chroot"
"""A file in a job's directory: who stopped the job wants its chroot as it is."""


@dataclass(frozen=True, slots=True)
class Status:
    """`exit` is None until nothing of the job runs any more.

    `layers` maps each directory that a later job may build on (layers, dnf caches, the written
    part of kept chroots) to its tree digest; `chroots` lists the chroots that stay on the node.
    """

    phase: str
    exit: int | None = None
    message: str = ""
    layers: dict[str, str] = field(default_factory=dict)
    chroots: list[str] = field(default_factory=list)


def write_status(directory: str, status: Status) -> None:
    """Replace DIRECTORY/status.json in one step."""
    temporary = os.path.join(directory, "status.json.new")
    with open(temporary, "w", encoding="utf-8") as stream:
        json.dump(asdict(status), stream)
    os.replace(temporary, os.path.join(directory, "status.json"))


def read_status(directory: str) -> Status | None:
    """The status, or None before the first one was written."""
    try:
        with open(os.path.join(directory, "status.json"), encoding="utf-8") as stream:
            return Status(**json.load(stream))
    except FileNotFoundError:
        return None
