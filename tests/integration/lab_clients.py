# SPDX-License-Identifier: GPL-2.0-or-later
"""libcloud, as a client of the lab's clouds, and a node by each."""

from __future__ import annotations

from libcloud.compute.base import Node, NodeDriver, NodeImage, NodeSize
from libcloud.compute.providers import get_driver
from libcloud.compute.types import Provider

from tests.integration.cloud_support import Client
from tests.lab.clouds.ec2 import ADMINISTRATOR, SECRET_KEY, Ec2Cloud
from tests.lab.clouds.ec2 import REGION as EC2_REGION
from tests.lab.clouds.openstack import FLAVOR, OpenStackCloud
from tests.lab.clouds.openstack_identity import (
    COMPUTE,
    PASSWORD,
    PROJECT,
    REGION,
    USER,
)


def connect_ec2(cloud: Ec2Cloud) -> NodeDriver:
    return get_driver(Provider.EC2)(
        ADMINISTRATOR,
        SECRET_KEY,
        region=EC2_REGION,
        host="127.0.0.1",
        port=cloud.proxy.port,
        secure=False,
        signature_version="4",
    )


def create_instance(cloud: Ec2Cloud, client: Client, **extra: object) -> Node:
    driver = connect_ec2(cloud)
    return driver.create_node(
        name="mc-test",
        image=NodeImage(cloud.image_id, "stock", driver),
        size=NodeSize("t3.small", "t3.small", 2048, 0, 0, 0, driver),
        ex_userdata=client.user_data(),
        ex_metadata={"owner": "somebody"},
        **extra,
    )


def connect_openstack(cloud: OpenStackCloud, password: str = PASSWORD) -> NodeDriver:
    return get_driver(Provider.OPENSTACK)(
        USER,
        password,
        ex_force_auth_url=cloud.auth_url,
        ex_force_auth_version="2.0_password",
        ex_tenant_name=PROJECT,
        ex_force_service_region=REGION,
        ex_force_service_type="compute",
        ex_force_service_name=COMPUTE,
    )


def create_server(cloud: OpenStackCloud, client: Client) -> Node:
    driver = connect_openstack(cloud)
    return driver.create_node(
        name="mc-test",
        image=NodeImage(cloud.image_id, "stock", driver),
        size=NodeSize(FLAVOR, "small", 512, 0, 0, 0, driver),
        ex_userdata=client.user_data(),
        ex_metadata={"owner": "somebody"},
    )
