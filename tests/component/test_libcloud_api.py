# SPDX-License-Identifier: GPL-2.0-or-later
"""The adapter for any driver, with libcloud's driver for Rackspace against mimic."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from mock_cloud.cloud.apis.adapter import InstanceState, Launch, Offer
from mock_cloud.cloud.apis.generic import LibcloudApi, make_libcloud_api
from mock_cloud.cloud.apis.texts import CredentialsRefused, OutcomeUnknown, QuotaReached
from mock_cloud.cloud.images import TAG_OWNER
from mock_cloud.errors import CloudError, ConfigError
from mock_cloud.settings import LibcloudSettings, NodeSettings, Reach
from tests.component.openstack_parts import (
    Mimic,
    json_fault,
    make_launch,
    make_remote,
)
from tests.lab.clouds.faults import Exchange, Request, Response, html_502, reset_after

pytest_plugins = ["tests.component.mimic_fixtures"]

ME = "me@here:0/0123abcd"
CREATE = "POST /servers"


@pytest.fixture
def settings(mimic: Mimic, request: pytest.FixtureRequest) -> LibcloudSettings:
    # libcloud's driver for OpenStack would look for its prices for seconds, and find none.
    return LibcloudSettings(
        "rackspace",
        {
            "key": request.node.name,
            "secret": "hidden-password",
            "region": "ord",
            "ex_force_auth_url": f"{mimic.url}/identity",
        },
        create={"ex_disk_config": "MANUAL"},
    )


def make(settings: LibcloudSettings, owner: str = ME) -> LibcloudApi:
    return make_libcloud_api(make_remote(settings), owner)


@pytest.fixture
def api(settings: LibcloudSettings) -> LibcloudApi:
    return make(settings)


@pytest.fixture
def offer(api: LibcloudApi) -> Offer:
    return Offer(str(api._driver.library.list_images()[0].id), "2")


def order(owner: str = ME) -> Launch:
    return make_launch("a1b2c3d4e5f6", owner=owner)


def test_wrong_credentials_are_refused_with_their_source(mimic: Mimic, api: LibcloudApi) -> None:
    mimic.proxy.faults.add(json_fault(401, {}), "POST /identity/*", times=None)
    with pytest.raises(CredentialsRefused) as caught:
        api.list_tagged()
    assert "/lab.toml [libcloud.arguments]" in caught.value.message
    assert "hidden" not in caught.value.message


def test_an_unknown_size_lists_near_ones(api: LibcloudApi, offer: Offer) -> None:
    with pytest.raises(ConfigError, match="lists no size of id 'performance1-9'") as caught:
        api.launch(order(), replace(offer, size="performance1-9"))
    assert "performance1-8" in str(caught.value.hint)


def test_a_node_from_its_order_to_its_end(mimic: Mimic, api: LibcloudApi, offer: Offer) -> None:
    seen: list[Request] = []

    def look(exchange: Exchange) -> Response:
        seen.append(exchange.request)
        return exchange.forward()

    mimic.proxy.faults.add(look, CREATE)
    made = api.launch(order(), offer)
    body = json.loads(seen[0].body)["server"]
    assert (body["flavorRef"], body["imageRef"]) == ("2", offer.image)
    assert body["OS-DCF:diskConfig"] == "MANUAL"
    assert body["metadata"] == order().tags
    found = api.find(made.handle)
    assert found is not None
    assert (found.state, found.tags[TAG_OWNER]) == (InstanceState.RUNNING, ME)
    assert Reach.PUBLIC in found.addresses
    assert [one.handle for one in api.list_tagged("a1b2c3d4e5f6")] == [made.handle]
    assert api.list_tagged("ffffffffffff") == []
    api.terminate(made.handle)
    api.terminate(made.handle)
    assert api.find(made.handle) is None


@pytest.mark.parametrize("fault", [reset_after, html_502()])
def test_an_order_without_an_answer_is_found_or_made_once(
    mimic: Mimic, api: LibcloudApi, offer: Offer, fault: object
) -> None:
    """Fault 5; also when the driver's second request fails, which reads the server back."""
    mimic.proxy.faults.add(fault, CREATE)  # type: ignore[arg-type]
    with pytest.raises(OutcomeUnknown):
        api.launch(order(), offer)
    made = api.launch(order(), offer)
    assert [one.handle for one in api.list_tagged()] == [made.handle]


def test_a_node_whose_reading_back_failed_is_adopted(
    mimic: Mimic, api: LibcloudApi, offer: Offer
) -> None:
    mimic.proxy.faults.add(html_502(), "GET /servers/test-server*")
    with pytest.raises(OutcomeUnknown):
        api.launch(order(), offer)
    assert len(api.list_tagged()) == 1
    made = api.launch(order(), offer)
    assert [one.handle for one in api.list_tagged()] == [made.handle]


def test_a_quota_is_named(mimic: Mimic, api: LibcloudApi, offer: Offer) -> None:
    """Fault 8."""
    fault = json_fault(403, {"forbidden": {"code": 403, "message": "Quota exceeded for cores"}})
    mimic.proxy.faults.add(fault, CREATE)
    with pytest.raises(QuotaReached, match="Quota exceeded for cores"):
        api.launch(order(), offer)


def test_another_owners_node_is_his_and_nobodys_is_never_ended(
    settings: LibcloudSettings, api: LibcloudApi, offer: Offer
) -> None:
    """Fault 39."""
    other = make(settings, "you@there:0/99999999")
    theirs = other.launch(order("you@there:0/99999999"), offer)
    library = api._driver.library
    size, image = api._pick("sizes", "2"), api._image(offer.image)
    nobodys = library.create_node(name="mock-cloud-web", size=size, image=image)
    (listed,) = api.list_tagged()
    assert listed.handle == theirs.handle
    assert listed.tags[TAG_OWNER] not in (ME, "")
    api.terminate(nobodys.id)
    assert nobodys.id in {node.id for node in library.list_nodes()}


def test_an_image_that_the_api_does_not_tell_of_is_left_to_it(
    mimic: Mimic, api: LibcloudApi, offer: Offer
) -> None:
    fault = {"badRequest": {"code": 400, "message": "Invalid imageRef provided."}}
    mimic.proxy.faults.add(json_fault(400, fault), CREATE)
    with pytest.raises(CloudError, match="Invalid imageRef"):
        api.launch(order(), replace(offer, image="no-such-image"))


def test_offers_go_through_locations(settings: LibcloudSettings) -> None:
    remote = replace(
        make_remote(replace(settings, locations=("a", "b"))),
        nodes={"x86_64": NodeSettings(("i",), ("1", "2"))},
    )
    offers = make_libcloud_api(remote, ME).offers("x86_64")
    assert [(one.size, one.zone) for one in offers] == [
        ("1", "a"), ("1", "b"), ("2", "a"), ("2", "b"),
    ]  # fmt: skip
