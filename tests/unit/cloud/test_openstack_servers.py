# SPDX-License-Identifier: GPL-2.0-or-later
from typing import Any

import pytest

from mock_cloud.cloud.apis.adapter import TAG_LEASE, InstanceState
from mock_cloud.cloud.apis.openstack_servers import parse_server
from mock_cloud.cloud.images import TAG_OWNER
from mock_cloud.settings import Reach


def server(**changes: object) -> dict[str, Any]:
    return {
        "id": "3f6a",
        "status": "ACTIVE",
        "created": "2026-01-31T00:00:00Z",
        "metadata": {TAG_LEASE: "a1", TAG_OWNER: "me", "other": "x"},
        "addresses": {},
        **changes,
    }


@pytest.mark.parametrize(
    "broken",
    [
        None,
        "<html>",
        {},
        server(id=7),
        server(id=""),
        server(status=None),
        server(addresses={"net": [{"addr": "not an address"}]}),
    ],
)
def test_what_is_no_server_is_refused(broken: object) -> None:
    with pytest.raises(ValueError, match=r"server|address"):
        parse_server(broken)


@pytest.mark.parametrize(
    ("status", "task", "state"),
    [
        ("BUILD", "spawning", InstanceState.PENDING),
        ("WHATEVER_COMES", None, InstanceState.PENDING),
        ("ACTIVE", None, InstanceState.RUNNING),
        ("ACTIVE", "deleting", InstanceState.ENDED),
        ("SHUTOFF", None, InstanceState.STOPPED),
        ("ERROR", None, InstanceState.FAILED),
        ("DELETED", None, InstanceState.ENDED),
    ],
)
def test_states(status: str, task: str | None, state: InstanceState) -> None:
    assert parse_server(server(status=status, **{"OS-EXT-STS:task_state": task})).state is state


def test_the_reason_of_an_error_is_the_apis() -> None:
    fault = {"message": "Build of instance aborted: no more disk", "code": 500}
    found = parse_server(server(status="ERROR", fault=fault))
    assert found.reason == "Build of instance aborted: no more disk"
    assert not found.lacks_capacity


def test_an_error_for_want_of_room_is_told_apart() -> None:
    fault = {"message": "No valid host was found. There are not enough hosts available."}
    assert parse_server(server(status="ERROR", fault=fault)).lacks_capacity


def test_only_our_tags_and_only_complete_ones() -> None:
    assert parse_server(server()).tags == {TAG_LEASE: "a1", TAG_OWNER: "me"}
    for metadata in ({TAG_LEASE: "a1"}, {TAG_OWNER: "me"}, {TAG_LEASE: 1, TAG_OWNER: "me"}, None):
        assert parse_server(server(metadata=metadata)).tags == {}


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        ({"mine": [{"addr": "10.0.0.4"}]}, {Reach.PRIVATE: "10.0.0.4"}),
        ({"public": [{"addr": "10.0.0.4"}]}, {Reach.PUBLIC: "10.0.0.4"}),
        ({"net": [{"addr": "8.8.8.8"}]}, {Reach.PUBLIC: "8.8.8.8"}),
        (
            {
                "net": [
                    {"addr": "10.0.0.4", "OS-EXT-IPS:type": "fixed"},
                    {"addr": "172.24.4.9", "OS-EXT-IPS:type": "floating"},
                ]
            },
            {Reach.PRIVATE: "10.0.0.4", Reach.PUBLIC: "172.24.4.9"},
        ),
        (
            {"public": [{"addr": "fe80::1"}, {"addr": "2001:db8::1"}, {"addr": "8.8.8.8"}]},
            {Reach.IPV6: "2001:db8::1", Reach.PUBLIC: "8.8.8.8"},
        ),
    ],
)
def test_addresses(addresses: object, expected: dict[Reach, str]) -> None:
    assert parse_server(server(addresses=addresses)).addresses == expected


def test_where_a_floating_address_is_wanted_no_other_is_public() -> None:
    fixed, floating = {"addr": "8.8.8.8"}, {"addr": "8.8.4.4", "OS-EXT-IPS:type": "floating"}
    before = parse_server(server(addresses={"public": [fixed]}), is_floating_wanted=True)
    assert before.addresses == {}
    after = parse_server(server(addresses={"public": [fixed, floating]}), is_floating_wanted=True)
    assert after.addresses == {Reach.PUBLIC: "8.8.4.4"}


def test_the_age_orders_duplicates() -> None:
    assert parse_server(server()).created_unix == 1769817600.0
    assert parse_server(server(created="yesterday")).created_unix == 0.0
