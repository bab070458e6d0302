# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine by its root directory: this one, or one that is prepared from outside."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from mock_cloud.model import HostKey
from mock_cloud.process import run

_TIMEOUT_S: Final = 60.0


class MachineRoot:
    """Files and programs of the machine whose root directory is `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def at(self, name: str) -> Path:
        """Where its file `name`, an absolute path there, is seen from here."""
        return self.path / name.lstrip("/")

    def read(self, name: str) -> str:
        """The text of its file; empty if it cannot be read."""
        try:
            return self.at(name).read_text(errors="replace")
        except OSError:
            return ""

    def find_key(self, name: str) -> HostKey | None:
        """The public key in its file."""
        try:
            return HostKey.parse(self.read(name))
        except ValueError:
            return None

    def run(self, *argv: str) -> bytes:
        """What one of its own programs prints. CommandFailed."""
        inside = [] if self.path == Path("/") else ["chroot", str(self.path)]
        return run([*inside, *argv], timeout_s=_TIMEOUT_S)
