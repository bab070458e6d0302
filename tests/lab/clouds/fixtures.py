# SPDX-License-Identifier: GPL-2.0-or-later
"""pytest's view of the clouds. A plugin, loaded by tests/conftest.py; imports are late."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.lab.clouds.ec2 import Ec2Cloud
    from tests.lab.clouds.openstack import OpenStackCloud
    from tests.lab.layout import Lab


@pytest.fixture(scope="session")
def ec2_cloud(lab: Lab) -> Iterator[Ec2Cloud]:
    """EC2 in the lab. Whoever uses it leaves it as it was."""
    pytest.importorskip("moto", reason="moto is not installed")
    from tests.lab.clouds.ec2 import Ec2Cloud
    from tests.lab.layout import locked

    with locked(lab):
        cloud = Ec2Cloud(lab)
        cloud.prepare()
    with cloud:
        yield cloud


@pytest.fixture
def ec2(ec2_cloud: Ec2Cloud) -> Iterator[Ec2Cloud]:
    """EC2 with nothing in it, before and after."""
    ec2_cloud.reset()
    yield ec2_cloud
    ec2_cloud.reset()


@pytest.fixture(scope="session")
def openstack_cloud(lab: Lab) -> Iterator[OpenStackCloud]:
    """OpenStack in the lab, which is Rackspace too. Whoever uses it leaves it as it was."""
    pytest.importorskip("mimic", reason="mimic is not installed")
    from tests.lab.clouds.openstack import OpenStackCloud
    from tests.lab.layout import locked

    with locked(lab):
        cloud = OpenStackCloud(lab)
        cloud.prepare()
    with cloud:
        yield cloud


@pytest.fixture
def openstack(openstack_cloud: OpenStackCloud) -> Iterator[OpenStackCloud]:
    """OpenStack with nothing in it, before and after."""
    openstack_cloud.reset()
    yield openstack_cloud
    openstack_cloud.reset()
