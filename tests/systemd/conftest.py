# SPDX-License-Identifier: GPL-2.0-or-later
"""One cloud of machines and one baked image of each generation for all tests of this directory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.bootable import system
from tests.lab.clouds.ec2 import Ec2Cloud
from tests.lab.layout import BOOTABLE, Lab, generation_lab
from tests.systemd.fleet import Fleet, FleetNode, make_fleet


@pytest.fixture(scope="session", params=BOOTABLE)
def bootable(request: pytest.FixtureRequest, lab: Lab) -> Lab:
    """The lab of a generation with systemd."""
    made = generation_lab(lab, request.param)
    if not (made.dist / "key").is_file():
        pytest.skip(f"machines with systemd: there is no lab of it: make lab-{made.generation}")
    return made


@pytest.fixture(scope="session")
def machines(bootable: Lab) -> Iterator[Ec2Cloud]:
    """A cloud whose nodes are machines with systemd, and whose stock image nobody signed for."""
    pytest.importorskip("moto", reason="moto is not installed")
    obstacle = system.find_obstacle()
    if obstacle is not None:
        pytest.skip(f"machines with systemd: {obstacle}")
    cloud = Ec2Cloud(bootable)
    cloud.prepare()
    with cloud:
        yield cloud


@pytest.fixture(scope="session")
def fleet(machines: Ec2Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    place = tmp_path_factory.mktemp("fleet")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("home", "state", "cache"):
            (place / name).mkdir()
        patch.setenv("HOME", str(place / "home"))
        patch.setenv("XDG_STATE_HOME", str(place / "state"))
        patch.setenv("XDG_CACHE_HOME", str(place / "cache"))
        yield make_fleet(machines, place)


@pytest.fixture(scope="session")
def machine(fleet: Fleet) -> Iterator[FleetNode]:
    """A node of the image, which each test leaves as it found it."""
    with fleet.node() as node:
        yield node
