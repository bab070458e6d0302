# SPDX-License-Identifier: GPL-2.0-or-later
"""One cloud of machines and one baked image of each generation for all tests of this directory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from tests.lab.bootable import system
from tests.lab.clouds.cloud import Cloud
from tests.lab.clouds.ec2 import Ec2Cloud
from tests.lab.clouds.openstack import OpenStackCloud
from tests.lab.layout import BOOTABLE, Lab, generation_lab
from tests.systemd.fleet import Fleet, FleetNode, baked

C = TypeVar("C", bound=Cloud)


@pytest.fixture(scope="session", params=BOOTABLE)
def bootable(request: pytest.FixtureRequest, lab: Lab) -> Lab:
    """The lab of a generation with systemd."""
    made = generation_lab(lab, request.param)
    if not (made.dist / "key").is_file():
        pytest.skip(f"machines with systemd: there is no lab of it: make lab-{made.generation}")
    return made


def _open(cloud: C) -> Iterator[C]:
    obstacle = system.find_obstacle()
    if obstacle is not None:
        pytest.skip(f"machines with systemd: {obstacle}")
    cloud.prepare()
    with cloud:
        yield cloud


@pytest.fixture(scope="session")
def machines(bootable: Lab) -> Iterator[Ec2Cloud]:
    """A cloud whose nodes are machines with systemd, and whose stock image nobody signed for."""
    pytest.importorskip("moto", reason="moto is not installed")
    yield from _open(Ec2Cloud(bootable))


@pytest.fixture(scope="session")
def openstack_machines(bootable: Lab) -> Iterator[OpenStackCloud]:
    """The same of the other cloud: cloud-init has another data source there."""
    pytest.importorskip("mimic", reason="mimic is not installed")
    yield from _open(OpenStackCloud(bootable))


@pytest.fixture(scope="session")
def fleet(machines: Ec2Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with baked(machines, "ec2", tmp_path_factory.mktemp("fleet")) as made:
        yield made


@pytest.fixture
def openstack_fleet(openstack_machines: OpenStackCloud, tmp_path: Path) -> Iterator[Fleet]:
    with baked(openstack_machines, "openstack", tmp_path) as made:
        yield made


@pytest.fixture(scope="session")
def machine(fleet: Fleet) -> Iterator[FleetNode]:
    """A node of the image, which each test leaves as it found it."""
    with fleet.node() as node:
        yield node
