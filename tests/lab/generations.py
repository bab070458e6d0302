# SPDX-License-Identifier: GPL-2.0-or-later
"""The generations of the lab's distribution: what each is packed of, and how it is signed.

The classic one is of EL 8's and 9's kind: rpm 4, dnf 4; its first process is the lab's own. The
others boot systemd and are packed inside of trees of Debian (`tests.lab.bootable`): "today" is of
Fedora's kind with rpm 6, dnf5 and systemd 25x; "el9" has the rpm 4, dnf 4 and systemd 252 of EL 9.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from mock_cloud.toolkit.machines import find_machine
from tests.lab import cloudpackages, own, seeds
from tests.lab.bootable import packages
from tests.lab.bootable import seeds as bootable
from tests.lab.layout import CLASSIC, EL9, TODAY, Lab
from tests.lab.rpmspec import Package


@dataclass(frozen=True, slots=True)
class Generation:
    """What differs between the distributions of the lab.

    `fetched` are packed without the packing machine having them installed, `own` makes the
    packages that no Debian package is, `node` is what a node's image is made of. `key_kinds` are
    gpg's words for the keys that each package is signed with. `suite` is Debian's word for the
    tree that it is packed in, if not on this machine itself.
    """

    seeds: tuple[str, ...]
    fetched: tuple[str, ...]
    node: tuple[str, ...]
    own: Callable[[str], tuple[Package, ...]]
    key_kinds: tuple[str, ...] = ("rsa3072",)
    package_manager: str = "dnf4"
    suite: str = ""


def _classic_packages(machine: str) -> tuple[Package, ...]:
    return (
        own.filesystem(machine, own.fixed_accounts()),
        own.rpm_config(find_machine(machine).triplet),
        own.rpm_build(),
        own.node(own.SSHD_CONFIG),
        cloudpackages.cloud(),
    )


def _bootable_packages(machine: str, *, has_resolved: bool) -> tuple[Package, ...]:
    macros = packages.macros()
    return (
        own.filesystem(machine, own.machine_accounts()),
        own.rpm_config(find_machine(machine).triplet, tuple(one.name for one in macros)),
        own.rpm_build(),
        own.node(packages.SSHD_CONFIG),
        packages.system(has_resolved=has_resolved),
        *macros,
    )


_GENERATIONS = {
    CLASSIC: Generation(seeds.SEEDS, seeds.FETCHED, seeds.NODE, _classic_packages),
    TODAY: Generation(
        bootable.TODAY,
        (),
        bootable.TODAY_NODE,
        partial(_bootable_packages, has_resolved=True),
        ("ed25519", "rsa3072"),
        "dnf5",
        "forky",
    ),
    EL9: Generation(
        bootable.EL9,
        (),
        bootable.EL9_NODE,
        partial(_bootable_packages, has_resolved=False),
        suite="bookworm",
    ),
}


def of(lab: Lab) -> Generation:
    """The generation of a lab's distribution."""
    return _GENERATIONS[lab.generation]
