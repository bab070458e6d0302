# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab of today's generation: rpm 6, dnf5, systemd; packed inside of a Debian testing tree."""

from __future__ import annotations

from tests.lab.layout import Lab, locked


def build(lab: Lab) -> None:
    """Make all of the lab of today's generation."""
    from tests.lab import steps
    from tests.lab.today import system

    parts = (
        ("a Debian testing system to pack in", system.build),
        ("the RPM distribution of today's generation, and a tree of it", _pack),
    )
    for what, make in parts:
        with steps.step(what), locked(lab):
            make(lab)


def _pack(lab: Lab) -> None:
    from tests.lab.today import system

    argv = ["/usr/bin/python3", "-m", "tests.lab", "pack", "--dir", str(lab.root)]
    system.run(lab, argv, directory=system.PROJECT)
