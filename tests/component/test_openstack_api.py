# SPDX-License-Identifier: GPL-2.0-or-later
"""The OpenStack adapter against mimic over HTTP, when all is well and when it is not."""

from __future__ import annotations

import base64
import json
import time
from itertools import count

import pytest

from mock_cloud.cloud.apis.adapter import TAG_LEASE, InstanceState
from mock_cloud.cloud.apis.openstack import OpenStackApi
from mock_cloud.cloud.apis.provider import CloudProvider
from mock_cloud.cloud.apis.texts import CredentialsRefused, NoCapacity, OutcomeUnknown, QuotaReached
from mock_cloud.cloud.apis.waiting import NodeSilent
from mock_cloud.cloud.provider import Bootstrap, CreatedNode, NodeOrder
from mock_cloud.errors import CloudError, ConfigError
from mock_cloud.settings import OpenStackSettings, Reach
from mock_cloud.sshkeys import make_key_pair
from tests.component.openstack_parts import (
    SOURCE,
    Mimic,
    altered,
    json_fault,
    make_api,
    make_launch,
    make_remote,
)
from tests.lab.clouds.faults import html_502, reset_after, swallow, too_many_requests

pytest_plugins = ["tests.component.mimic_fixtures"]

TOKENS = "POST /identity/v2.0/tokens"
CREATE = "POST /servers"
LIST = "GET /servers/detail"

tenants = (str(number) for number in count(100_000))


@pytest.fixture
def api(mimic: Mimic) -> OpenStackApi:
    return make_api(mimic, next(tenants))


def test_wrong_credentials_are_refused_at_once_with_their_source(
    mimic: Mimic, api: OpenStackApi
) -> None:
    mimic.proxy.faults.add(json_fault(401, {"unauthorized": {"code": 401}}), TOKENS, times=None)
    with pytest.raises(CredentialsRefused) as caught:
        api.list_tagged()
    with pytest.raises(CredentialsRefused):
        api.terminate("what-a-clean-up-would-end")
    assert mimic.statuses() == [f"{TOKENS} 401"]
    assert SOURCE in caught.value.message
    assert "hidden" not in f"{caught.value.message} {caught.value.hint} {caught.value!r}"


def test_a_region_without_the_service_is_refused(mimic: Mimic, api: OpenStackApi) -> None:
    def move(body: dict) -> None:  # type: ignore[type-arg]
        for service in body["access"]["serviceCatalog"]:
            for endpoint in service["endpoints"]:
                endpoint["region"] = "DFW"

    mimic.proxy.faults.add(altered(move), TOKENS)
    with pytest.raises(ConfigError, match="no public endpoints for compute in region 'ORD'"):
        api.list_tagged()


def test_a_server_from_its_order_to_its_end(mimic: Mimic, api: OpenStackApi) -> None:
    launch = make_launch()
    made = api.launch(launch, api.offers("x86_64")[0])
    assert mimic.statuses() == [f"{TOKENS} 200", f"{CREATE} 202"]
    found = api.find(made.handle)
    assert found is not None
    assert (found.handle, found.state) == (made.handle, InstanceState.RUNNING)
    assert found.tags == launch.tags
    assert [one.handle for one in api.list_tagged()] == [made.handle]
    assert api.list_tagged("another") == []
    assert api.console(made.handle) == ""
    api.terminate(made.handle)
    api.terminate(made.handle)
    assert api.find(made.handle) is None
    assert api.list_tagged() == []


def test_what_is_ordered(mimic: Mimic) -> None:
    placement = OpenStackSettings(
        zones=("z1",),
        networks=("6a2f0f1e-0b4c-4c5e-9a53-0f6a2d6b1c11",),
        security_groups=("ssh",),
        config_drive=True,
    )
    api = make_api(mimic, next(tenants), placement)
    seen = []

    def look(exchange):  # type: ignore[no-untyped-def]
        seen.append(exchange.request)
        return exchange.forward()

    mimic.proxy.faults.add(look, CREATE)
    api.launch(make_launch(), api.offers("x86_64")[1])
    server = json.loads(seen[0].body)["server"]
    assert base64.b64decode(server.pop("user_data")) == b"#cloud-config\n{}\n"
    assert server == {
        "name": "mock-cloud-a1b2c3",
        "imageRef": "image-1",
        "flavorRef": "3",
        "metadata": make_launch().tags,
        "availability_zone": "z1",
        "networks": [{"uuid": "6a2f0f1e-0b4c-4c5e-9a53-0f6a2d6b1c11"}],
        "security_groups": [{"name": "ssh"}],
        "config_drive": True,
    }
    assert "user_data" not in seen[0].path


def test_a_network_that_is_not_there_is_named(mimic: Mimic) -> None:
    api = make_api(mimic, next(tenants), OpenStackSettings(networks=("privat",)))
    with pytest.raises(ConfigError, match="no networks are called 'privat'") as caught:
        api.launch(make_launch(), api.offers("x86_64")[0])
    assert caught.value.hint == "near names: private"
    assert mimic.proxy.calls.count(CREATE) == 0


def test_a_token_that_ended_is_renewed_once(mimic: Mimic, api: OpenStackApi) -> None:
    """Fault 2."""
    made = api.launch(make_launch(), api.offers("x86_64")[0])
    refusal = json_fault(401, {"unauthorized": {"code": 401, "message": "token expired"}})
    mimic.proxy.faults.add(refusal, "DELETE *")
    mimic.proxy.calls.clear()
    api.terminate(made.handle)
    path = f"DELETE /servers/{made.handle}"
    assert mimic.statuses() == [f"{path} 401", f"{TOKENS} 200", f"{path} 204"]


def test_a_token_that_is_never_accepted_is_not_renewed_for_ever(
    mimic: Mimic, api: OpenStackApi
) -> None:
    mimic.proxy.faults.add(json_fault(401, {}), LIST, times=None)
    with pytest.raises(CredentialsRefused):
        api.list_tagged()
    assert mimic.proxy.calls.count(LIST) == 2


def test_throttled_reads_wait_as_long_as_told(mimic: Mimic, api: OpenStackApi) -> None:
    """Fault 3."""
    told: list[str] = []
    mimic.proxy.faults.add(too_many_requests(1), LIST)
    began_s = time.monotonic()
    with api.calls.telling(told.append):
        assert api.list_tagged() == []
    assert time.monotonic() - began_s >= 1.0
    assert "throttling us" in told[0]


def test_html_instead_of_an_answer_is_read_again(mimic: Mimic, api: OpenStackApi) -> None:
    """Fault 4."""
    mimic.proxy.faults.add(html_502(), LIST)
    assert api.list_tagged() == []
    assert mimic.statuses()[-2:] == [f"{LIST} 502", f"{LIST} 200"]


@pytest.mark.parametrize("fault", [swallow, reset_after, html_502()])
def test_an_order_without_an_answer_is_found_or_made_once(
    mimic: Mimic, api: OpenStackApi, fault: object
) -> None:
    """Fault 5: the caller asks again with the same token, whatever had become of the first."""
    mimic.proxy.faults.add(fault, CREATE)  # type: ignore[arg-type]
    launch, offer = make_launch(), api.offers("x86_64")[0]
    with pytest.raises(OutcomeUnknown):
        api.launch(launch, offer)
    made = api.launch(launch, offer)
    assert [one.handle for one in api.list_tagged()] == [made.handle]


def test_of_duplicates_the_oldest_is_kept(mimic: Mimic, api: OpenStackApi) -> None:
    """Fault 6: the listing did not show the first yet, when it was asked for again."""
    launch, offer = make_launch(), api.offers("x86_64")[0]
    mimic.proxy.faults.add(swallow, CREATE)
    with pytest.raises(OutcomeUnknown):
        api.launch(launch, offer)
    mimic.proxy.faults.add(json_fault(200, {"servers": []}), LIST)
    mimic.proxy.faults.add(swallow, CREATE)
    with pytest.raises(OutcomeUnknown):
        api.launch(launch, offer)
    other = api.launch(make_launch("a1b2c3d4"), offer)  # whose name begins like it
    both = [one.handle for one in api.list_tagged("a1b2c3")]
    assert len(both) == 2
    made = api.launch(launch, offer)
    assert made.handle in both
    assert {one.handle for one in api.list_tagged()} == {made.handle, other.handle}


def test_somebody_elses_server_of_that_name_is_not_adopted(mimic: Mimic, api: OpenStackApi) -> None:
    launch, offer = make_launch(), api.offers("x86_64")[0]
    mimic.proxy.faults.add(html_502(), CREATE)
    with pytest.raises(OutcomeUnknown):
        api.launch(launch, offer)

    def strip(body: dict) -> None:  # type: ignore[type-arg]
        for server in body["servers"]:
            server["metadata"] = {TAG_LEASE: "another", "mock-cloud-owner": "you"}

    mimic.proxy.faults.add(swallow, CREATE)
    with pytest.raises(OutcomeUnknown):
        api.launch(launch, offer)
    mimic.proxy.faults.add(altered(strip), LIST)
    made = api.launch(launch, offer)
    assert len(api.list_tagged()) == 2
    assert made.handle in {one.handle for one in api.list_tagged()}


def test_no_room_is_told_apart(mimic: Mimic, api: OpenStackApi) -> None:
    """Fault 7."""
    fault = {"computeFault": {"code": 500, "message": "No valid host was found."}}
    mimic.proxy.faults.add(json_fault(500, fault), CREATE)
    with pytest.raises(NoCapacity):
        api.launch(make_launch(), api.offers("x86_64")[0])


def test_a_quota_is_named_and_not_asked_for_again(mimic: Mimic, api: OpenStackApi) -> None:
    """Fault 8."""
    message = "Quota exceeded for instances: Requested 1, but already used 10 of 10 instances"
    fault = json_fault(403, {"forbidden": {"code": 403, "message": message}})
    mimic.proxy.faults.add(fault, CREATE, times=None)
    with pytest.raises(QuotaReached, match="Quota exceeded for instances") as caught:
        api.launch(make_launch(), api.offers("x86_64")[0])
    assert not caught.value.retryable
    assert mimic.proxy.calls.count(CREATE) == 1


def _create(api: OpenStackApi, *, reach: Reach = Reach.PRIVATE) -> CreatedNode:
    settings = OpenStackSettings(reach=reach)
    return CloudProvider(api, settings, make_remote(settings), owner="me@here:0").create(
        NodeOrder("a1b2c3", "lab", "me@here:0", "x86_64", time.time() + 600),
        Bootstrap(make_key_pair(), make_key_pair().public, "mock-cloud-a1b2c3"),
        timeout_s=20.0,
        on_handle=lambda _: None,
        on_phase=lambda _: None,
    )


def test_a_smaller_size_may_fit_where_a_larger_one_does_not(
    mimic: Mimic, api: OpenStackApi
) -> None:
    message = "Quota exceeded for cores: Requested 8, but already used 20 of 20 cores"
    fault = json_fault(403, {"forbidden": {"code": 403, "message": message}})
    asked = []

    def look(exchange):  # type: ignore[no-untyped-def]
        asked.append(json.loads(exchange.request.body)["server"]["flavorRef"])
        return fault(exchange)

    mimic.proxy.faults.add(look, CREATE, times=2)
    with pytest.raises(QuotaReached, match="already used 20 of 20 cores") as caught:
        _create(api)
    assert asked == ["2", "3"]
    assert not caught.value.retryable


def test_a_quota_of_ports_ends_the_list(mimic: Mimic, api: OpenStackApi) -> None:
    fault = {"forbidden": {"code": 403, "message": "Maximum number of ports exceeded"}}
    mimic.proxy.faults.add(json_fault(403, fault), CREATE)
    with pytest.raises(QuotaReached, match="Maximum number of ports exceeded"):
        _create(api)
    assert mimic.proxy.calls.count(CREATE) == 1


def test_a_running_server_without_the_wanted_address_is_not_waited_for(
    mimic: Mimic, api: OpenStackApi
) -> None:
    """It is known when it is ACTIVE; the wait for it used to last as long as a boot may."""

    def private(body: dict) -> None:  # type: ignore[type-arg]
        body["server"]["addresses"] = {"net": [{"version": 4, "addr": "10.1.2.3"}]}

    mimic.proxy.faults.add(altered(private), "GET /servers/test-*", times=None)
    with pytest.raises(ConfigError, match=r"no public address; it has private 10\.1\.2\.3") as no:
        _create(api, reach=Reach.PUBLIC)
    assert 'reach = "private"' in str(no.value.hint)
    assert api.list_tagged() == []


def test_a_silent_node_is_replaced_though_its_console_is_not_answered(mimic: Mimic) -> None:
    """Nova reads it from the server's host, which may be what has died: Nova itself is not out."""

    def nobody(body: dict) -> None:  # type: ignore[type-arg]
        for found in [body["server"]] if "server" in body else body["servers"]:
            found["addresses"] = {"public": [{"version": 4, "addr": "127.31.22.11"}]}

    mimic.proxy.faults.add(altered(nobody), "GET /servers/*", times=None)
    mimic.proxy.faults.add(html_502(504), "POST /servers/*/action", times=None)
    api = make_api(mimic, next(tenants), timeout_s=60.0, attempt_s=20.0, create_timeout_s=20.0)
    settings = OpenStackSettings(boot_timeout_s=5.0)
    provider = CloudProvider(api, settings, make_remote(settings), owner="me@here:0")
    with pytest.raises(NodeSilent):
        provider.create(
            NodeOrder("a1b2c3", "lab", "me@here:0", "x86_64", time.time() + 600),
            Bootstrap(make_key_pair(), make_key_pair().public, "mock-cloud-a1b2c3"),
            timeout_s=300.0, on_handle=lambda _: None, on_phase=lambda _: None,
        )  # fmt: skip
    assert mimic.proxy.calls.count(CREATE) == 2
    assert api.list_tagged() == []


def test_a_server_in_error_has_its_fault_for_a_reason(mimic: Mimic, api: OpenStackApi) -> None:
    """Fault 9."""
    made = api.launch(make_launch(), api.offers("x86_64")[0])

    def fail(body: dict) -> None:  # type: ignore[type-arg]
        body["server"] |= {"status": "ERROR", "fault": {"code": 500, "message": "disk is full"}}

    mimic.proxy.faults.add(altered(fail), f"GET /servers/{made.handle}")
    found = api.find(made.handle)
    assert found is not None
    assert (found.state, found.reason) == (InstanceState.FAILED, "disk is full")


def test_a_wrong_image_is_the_files_fault(mimic: Mimic, api: OpenStackApi) -> None:
    fault = {"badRequest": {"code": 400, "message": "Invalid imageRef provided."}}
    mimic.proxy.faults.add(json_fault(400, fault), CREATE)
    with pytest.raises(ConfigError, match=r"Invalid imageRef provided"):
        api.launch(make_launch(), api.offers("x86_64")[0])


@pytest.mark.parametrize(
    "answer", [{"servers": "none"}, {"servers": [{"id": 1}]}, {"servers": [7]}, [], {}]
)
def test_an_answer_that_is_no_listing_is_never_an_empty_one(mimic: Mimic, answer: object) -> None:
    api = make_api(mimic, next(tenants), timeout_s=0.5)
    mimic.proxy.faults.add(json_fault(200, answer), LIST, times=None)
    with pytest.raises(CloudError):
        api.list_tagged()


def test_all_pages_are_read(mimic: Mimic, api: OpenStackApi) -> None:
    offer = api.offers("x86_64")[0]
    made = {api.launch(make_launch(f"a{number}"), offer).handle for number in range(3)}

    def first_only(body: dict) -> None:  # type: ignore[type-arg]
        body["servers"] = body["servers"][:1]
        body["servers_links"] = [{"rel": "next", "href": "http://elsewhere.example.org/"}]

    mimic.proxy.faults.add(altered(first_only), LIST)
    assert {one.handle for one in api.list_tagged()} == made
