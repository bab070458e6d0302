# SPDX-License-Identifier: GPL-2.0-or-later
"""The generations of the lab's distribution: what each is packed of, and how it is signed.

`CLASSIC` is of EL 8's and 9's kind: rpm 4, dnf 4, a first process of the lab's own. `TODAY` is of
Fedora's: rpm 6, dnf5, systemd. It is packed inside of a tree of Debian testing (`tests.lab.today`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mock_cloud.toolkit.machines import find_machine
from tests.lab import cloudpackages, own, seeds
from tests.lab.layout import Lab
from tests.lab.rpmspec import Package
from tests.lab.today import packages
from tests.lab.today import seeds as today


@dataclass(frozen=True, slots=True)
class Generation:
    """What differs between the distributions of the lab.

    `fetched` are packed without the packing machine having them installed, `own` makes the
    packages that no Debian package is, `node` is what a node's image is made of. `key_kinds` are
    gpg's words for the keys that each package is signed with.
    """

    name: str
    seeds: tuple[str, ...]
    fetched: tuple[str, ...]
    node: tuple[str, ...]
    own: Callable[[str], tuple[Package, ...]]
    key_kinds: tuple[str, ...]
    has_systemd: bool = False


def _classic_packages(machine: str) -> tuple[Package, ...]:
    return (
        own.filesystem(machine, own.fixed_accounts()),
        own.rpm_config(find_machine(machine).triplet),
        own.rpm_build(),
        own.node(own.SSHD_CONFIG),
        cloudpackages.cloud(),
    )


def _today_packages(machine: str) -> tuple[Package, ...]:
    macros = packages.macros()
    return (
        own.filesystem(machine, own.machine_accounts()),
        own.rpm_config(find_machine(machine).triplet, tuple(one.name for one in macros)),
        own.rpm_build(),
        own.node(packages.SSHD_CONFIG),
        packages.system(),
        *macros,
    )


CLASSIC = Generation(
    "classic", seeds.SEEDS, seeds.FETCHED, seeds.NODE, _classic_packages, ("rsa3072",)
)
TODAY = Generation(
    "today", today.SEEDS, (), today.NODE, _today_packages, ("ed25519", "rsa3072"), has_systemd=True
)


def of(lab: Lab) -> Generation:
    """The generation of a lab's distribution."""
    return TODAY if lab.is_today else CLASSIC
