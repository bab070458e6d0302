# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab's OpenStack is one to libcloud, as its Rackspace is; servers are machines."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from libcloud.common.exceptions import BaseHTTPError
from libcloud.common.types import InvalidCredsError
from libcloud.compute.base import NodeImage, NodeSize
from libcloud.compute.providers import get_driver
from libcloud.compute.types import Provider

from tests.integration.cloud_support import Client, greets
from tests.integration.lab_clients import connect_openstack, create_server
from tests.lab.clouds import openstack_json
from tests.lab.clouds.openstack import FLAVOR, OpenStackCloud
from tests.lab.clouds.openstack_identity import (
    API_KEY,
    CREDENTIAL_ID,
    CREDENTIAL_SECRET,
    REGION,
    USER,
)
from tests.waiting import wait_for

pytestmark = pytest.mark.lab


def test_a_server_is_a_machine(openstack: OpenStackCloud, tmp_path: Path) -> None:
    client = Client(tmp_path)
    made = create_server(openstack, client)
    machine = openstack.node(made.id)
    wait_for(lambda: greets(machine.address))
    driver = connect_openstack(openstack)
    (node,) = driver.list_nodes()
    assert (node.state, node.extra["metadata"]) == ("running", {"owner": "somebody"})
    assert {*node.public_ips, *node.private_ips} == {machine.address}
    assert client.ssh(machine.address, "hostname; cat /etc/hostname").split() == ["node-1"] * 2
    assert openstack.listing().instances == (made.id,)
    output = driver.ex_get_console_output(node)["output"]
    assert "Datasource DataSourceOpenStack" in output
    client.ssh(machine.address, "poweroff")
    wait_for(lambda: driver.ex_get_node_details(made.id).state == "stopped")
    assert machine.directory.exists()  # a stopped server is there, and paid for
    assert driver.destroy_node(node)
    assert not machine.directory.exists()
    assert openstack.listing().is_empty


@pytest.mark.slow
def test_an_image_of_a_server(openstack: OpenStackCloud, tmp_path: Path) -> None:
    client = Client(tmp_path)
    made = create_server(openstack, client)
    machine = openstack.node(made.id)
    wait_for(lambda: greets(machine.address))
    client.ssh(machine.address, "echo kept > /srv/note; sync")
    driver = connect_openstack(openstack)
    driver.connection.request(
        f"/servers/{made.id}/action", method="POST", data={"createImage": {"name": "baked"}}
    )
    (image,) = openstack.listing().images
    assert driver.destroy_node(made)
    second = Client(tmp_path / "second", hostname="node-2")
    second.place.mkdir()
    again = driver.create_node(
        name="mc-again",
        image=NodeImage(image, "baked", driver),
        size=NodeSize(FLAVOR, "small", 512, 0, 0, 0, driver),
        ex_userdata=second.user_data(),
    )
    address = openstack.node(again.id).address
    wait_for(lambda: greets(address))
    assert second.ssh(address, "cat /srv/note /etc/hostname").split() == ["kept", "node-2"]


def test_rackspace_is_the_same_cloud(openstack: OpenStackCloud) -> None:
    driver = get_driver(Provider.RACKSPACE)(
        USER,
        API_KEY,
        region="ord",
        ex_force_auth_url=openstack.auth_url,
        ex_force_auth_version="2.0_apikey",
    )
    assert driver.list_nodes() == []
    assert any(size.id == FLAVOR for size in driver.list_sizes())


def test_wrong_passwords_and_old_tokens_are_refused(openstack: OpenStackCloud) -> None:
    with pytest.raises(InvalidCredsError):
        connect_openstack(openstack, "wrong").list_nodes()
    driver = connect_openstack(openstack)
    assert driver.list_nodes() == []
    openstack.identity.expire_tokens()
    with pytest.raises(BaseHTTPError, match="401"):
        driver.list_nodes()


def ask(url: str, body: object, token: str = "") -> tuple[dict[str, str], object]:
    headers = {"Content-Type": "application/json", "X-Auth-Token": token}
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(url, data, headers), timeout=600) as answer:  # noqa: S310 (loopback)
        return dict(answer.headers), json.load(answer)


def test_application_credentials_and_image_members(openstack: OpenStackCloud) -> None:
    credential = {"id": CREDENTIAL_ID, "secret": CREDENTIAL_SECRET}
    methods = {"methods": ["application_credential"], "application_credential": credential}
    url = f"{openstack.auth_url}/v3/auth/tokens"
    headers, value = ask(url, {"auth": {"identity": methods}})
    assert isinstance(value, dict)
    catalog = {one["name"]: one["endpoints"] for one in value["token"]["catalog"]}
    endpoint = next(one["url"] for one in catalog["cloudImages"] if one["region"] == REGION)
    image, token = f"{endpoint}/v2/images/{openstack.image_id}", headers["X-Subject-Token"]
    members = f"{image}/members"
    with pytest.raises(HTTPError, match="403"):  # a private image has none
        ask(members, {"member": "other-project"}, token)
    kind = {"Content-Type": "application/openstack-images-v2.1-json-patch", "X-Auth-Token": token}
    change = json.dumps([{"op": "replace", "path": "/visibility", "value": "shared"}]).encode()
    urlopen(Request(image, change, kind, method="PATCH"), timeout=600).close()  # noqa: S310
    ask(members, {"member": "other-project"}, token)
    _, shared = ask(members, None, token)
    assert isinstance(shared, dict)
    assert [one["status"] for one in shared["members"]] == ["pending"]
    with pytest.raises(HTTPError, match="401"):
        ask(members, None, "no such token")


def test_faults_in_novas_words(openstack: OpenStackCloud, tmp_path: Path) -> None:
    driver = connect_openstack(openstack)
    driver.list_nodes()
    url = f"{driver.connection.get_endpoint()}/servers"
    token = driver.connection.auth_token
    asked = {"name": "x", "imageRef": openstack.image_id, "flavorRef": FLAVOR}
    asked["user_data"] = base64.b64encode(Client(tmp_path).user_data().encode()).decode()
    openstack.faults.add(openstack_json.over_quota(), "POST /servers")
    with pytest.raises(HTTPError, match="403"):
        ask(url, {"server": asked}, token)
    openstack.faults.add(openstack.dying("No valid host was found."), "POST /servers")
    _, made = ask(url, {"server": asked}, token)
    assert isinstance(made, dict)
    _, found = ask(f"{url}/{made['server']['id']}", None, token)
    assert isinstance(found, dict)
    assert found["server"]["status"] == "ERROR"
    assert found["server"]["fault"]["message"] == "No valid host was found."
    openstack.faults.add(openstack_json.empty_list, "GET /servers/detail", times=2)
    assert driver.list_nodes() == driver.list_nodes() == []
    assert len(driver.list_nodes()) == 1
    assert openstack.calls.count("POST /servers") == 2
