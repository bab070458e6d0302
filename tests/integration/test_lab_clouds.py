# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab's EC2 is one to libcloud, and its instances are machines that cloud-init set up."""

from __future__ import annotations

from pathlib import Path

import pytest
from libcloud.compute.base import Node

from tests.integration.cloud_support import Client, greets
from tests.integration.lab_clients import connect_ec2, create_instance
from tests.lab.clouds.ec2 import Ec2Cloud
from tests.lab.clouds.machines import State
from tests.waiting import wait_for

pytestmark = pytest.mark.lab


def look(cloud: Ec2Cloud, node: Node) -> Node:
    return connect_ec2(cloud).list_nodes(ex_node_ids=[node.id])[0]


def test_an_instance_is_a_machine(ec2: Ec2Cloud, tmp_path: Path) -> None:
    client = Client(tmp_path)
    made = create_instance(ec2, client, ex_terminate_on_shutdown=True)
    assert (made.state, made.extra["tags"]["owner"]) == ("pending", "somebody")
    machine = ec2.node(made.id)
    wait_for(lambda: greets(machine.address))
    node = look(ec2, made)
    assert node.state == "running"
    assert node.public_ips == node.private_ips == [machine.address]
    assert client.ssh(machine.address, "hostname; cat /etc/hostname").split() == ["node-1"] * 2
    listing = ec2.listing()
    assert listing.instances == (made.id,)
    assert len(listing.volumes) == 1
    output = connect_ec2(ec2).ex_get_console_output(node)["output"]
    assert "Datasource DataSourceEc2" in output
    url = f"{ec2.repository_url}/1/repodata/repomd.xml"
    fetch = f"import urllib.request as r; print(r.urlopen('{url}').status)"
    assert client.ssh(machine.address, f'python3 -c "{fetch}"') == "200\n"
    client.ssh(machine.address, "poweroff")
    wait_for(lambda: look(ec2, made).state == "terminated")
    assert look(ec2, made).extra["reason"].startswith("Client.InstanceInitiatedShutdown")
    assert ec2.listing().is_empty
    wait_for(lambda: not machine.directory.exists())
    assert ec2.nodes() == ()


def test_termination_leaves_nothing(ec2: Ec2Cloud, tmp_path: Path) -> None:
    made = create_instance(ec2, Client(tmp_path))
    machine = ec2.node(made.id)
    assert connect_ec2(ec2).destroy_node(made)
    assert machine.state is not State.RUNNING
    assert not machine.directory.exists()
    assert ec2.listing().is_empty
