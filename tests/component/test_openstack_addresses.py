# SPDX-License-Identifier: GPL-2.0-or-later
"""Floating addresses: made for a server, found again without one, given back."""

from __future__ import annotations

from itertools import count

import pytest

from mock_cloud.cloud.apis.adapter import Instance
from mock_cloud.cloud.apis.openstack import OpenStackApi
from mock_cloud.cloud.apis.provider import CloudProvider
from mock_cloud.cloud.apis.texts import QuotaReached
from mock_cloud.cloud.provider import FoundNode
from mock_cloud.errors import CleanupError, ConfigError
from mock_cloud.settings import OpenStackSettings
from tests.component.openstack_parts import (
    Mimic,
    json_fault,
    make_api,
    make_launch,
    make_remote,
)
from tests.lab.clouds.faults import html_502, swallow

pytest_plugins = ["tests.component.mimic_fixtures"]

FLOATING = OpenStackSettings(floating_ip_pool="public")
CREATE = "POST /v2.0/floatingips"
tenants = (str(number) for number in count(200_000))


@pytest.fixture
def api(mimic: Mimic) -> OpenStackApi:
    return make_api(mimic, next(tenants), FLOATING)


def order(mimic: Mimic, api: OpenStackApi, lease_id: str = "a1b2c3") -> Instance:
    made = api.launch(make_launch(lease_id), api.offers("x86_64")[0])
    mimic.servers_with_ports.add(made.handle)
    return made


def test_an_unknown_pool_lists_the_known(mimic: Mimic) -> None:
    api = make_api(mimic, next(tenants), OpenStackSettings(floating_ip_pool="outside"))
    with pytest.raises(ConfigError, match="no floating IP pool 'outside'") as caught:
        api.complete(order(mimic, api))
    assert "public" in str(caught.value.hint)


def test_a_quota_of_addresses_is_named(mimic: Mimic, api: OpenStackApi) -> None:
    fault = {"NeutronError": {"message": "Quota exceeded for resources: ['floatingip']."}}
    mimic.proxy.faults.add(json_fault(409, fault), CREATE)
    with pytest.raises(QuotaReached, match="floatingip"):
        api.complete(order(mimic, api))


def test_before_the_server_has_a_port_nothing_is_taken(mimic: Mimic, api: OpenStackApi) -> None:
    made = api.launch(make_launch(), api.offers("x86_64")[0])
    api.complete(made)
    assert not mimic.network.floating


def test_one_address_however_often_it_is_asked_for(mimic: Mimic, api: OpenStackApi) -> None:
    made = order(mimic, api)
    mimic.proxy.faults.add(swallow, CREATE)  # made, and nobody told
    for _ in range(3):
        api.complete(made)
    (address,) = mimic.network.floating.values()
    assert address["port_id"] == f"port-{made.handle}"
    assert api.list_leftovers() == []


def test_an_address_that_lost_its_port_is_attached_again(mimic: Mimic, api: OpenStackApi) -> None:
    made = order(mimic, api)
    api.complete(made)
    (address,) = mimic.network.floating.values()
    address["port_id"] = None
    api.complete(made)
    assert list(mimic.network.floating.values()) == [address]
    assert address["port_id"] == f"port-{made.handle}"


def test_an_address_outlives_its_server_and_is_found(mimic: Mimic, api: OpenStackApi) -> None:
    """Fault 38."""
    gone, stays = order(mimic, api), order(mimic, api, "d4e5f6")
    for made in (gone, stays):
        api.complete(made)
    of_gone, of_stays = mimic.network.floating
    mimic.network.floating["theirs"] = {"id": "theirs", "port_id": None, "description": "web"}
    api.terminate(gone.handle)
    (leftover,) = api.list_leftovers()
    assert (leftover.handle, leftover.tags) == (of_gone, gone.tags)
    assert api.list_leftovers("d4e5f6") == []
    api.remove(leftover)
    api.remove(leftover)
    assert list(mimic.network.floating) == [of_stays, "theirs"]


def test_a_sweep_sees_the_address_and_its_owner(mimic: Mimic, api: OpenStackApi) -> None:
    """Fault 38, as the reaper does it: the lease is listed as not running, and ended."""
    provider = CloudProvider(api, FLOATING, make_remote(FLOATING), owner="me@here:0")
    made = order(mimic, api)
    api.complete(made)
    api.terminate(made.handle)
    expected = FoundNode("a1b2c3", "me@here:0", "", False, "lab", 1900000000.0)
    assert list(provider.list_nodes()) == [expected]
    provider.destroy("a1b2c3", "")
    assert not mimic.network.floating
    assert list(provider.list_nodes()) == []


def test_what_could_not_be_given_back_is_said_and_found_by_the_next_run(mimic: Mimic) -> None:
    """Fault 37."""
    tenant = next(tenants)
    api = make_api(mimic, tenant, FLOATING, timeout_s=0.5)
    api.complete(order(mimic, api))
    fault = mimic.proxy.faults.add(html_502(), "DELETE *", times=None)
    remote = make_remote(FLOATING)
    with pytest.raises(CleanupError, match="could not be removed"):
        CloudProvider(api, FLOATING, remote, owner="me@here:0").destroy("a1b2c3", "")
    fault.lift()
    later = CloudProvider(make_api(mimic, tenant, FLOATING), FLOATING, remote, owner="me@here:0")
    assert [node.lease_id for node in later.list_nodes()] == ["a1b2c3"]
