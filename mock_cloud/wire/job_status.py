# SPDX-License-Identifier: GPL-2.0-or-later
"""A job's `status.json`: where it is, and once it ended, how."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Final

from mock_cloud.wire.decode import decode_bytes, to_json
from mock_cloud.wire.files import replace_file

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
    replace_file(os.path.join(directory, "status.json"), to_json(status))


def read_status(directory: str) -> Status | None:
    """The status, or None before the first one was written."""
    try:
        with open(os.path.join(directory, "status.json"), "rb") as stream:
            return decode_bytes(Status, stream.read())
    except FileNotFoundError:
        return None
