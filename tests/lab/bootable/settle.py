# SPDX-License-Identifier: GPL-2.0-or-later
"""What installing would have done to a tree by scriptlets and triggers, where systemd is."""

from __future__ import annotations

from pathlib import Path

from tests.lab.bootable.boot import in_tree, make_bootable


def with_systemd(root: Path) -> None:
    """Units as presets say, an index of hardware, what a machine boots from."""
    in_tree(root, "systemctl", "preset-all")
    in_tree(root, "systemd-hwdb", "--usr", "update")
    make_bootable(root)
