# SPDX-License-Identifier: GPL-2.0-or-later
"""Labs whose nodes are machines that boot systemd: each is packed inside of a tree of Debian."""

from __future__ import annotations

from tests.lab.layout import Lab, locked


def build(lab: Lab) -> None:
    """Make all of the lab of such a generation."""
    from tests.lab import steps
    from tests.lab.bootable import system

    parts = (
        (f"a Debian system to pack the generation {lab.generation} in", system.build),
        (f"the RPM distribution of the generation {lab.generation}, and a tree of it", _pack),
    )
    for what, make in parts:
        with steps.step(what), locked(lab):
            make(lab)


def _pack(lab: Lab) -> None:
    from tests.lab.bootable import system

    argv = ["/usr/bin/python3", "-m", "tests.lab", "pack", lab.generation, "--dir", str(lab.root)]
    system.run(lab, argv, directory=system.PROJECT)
