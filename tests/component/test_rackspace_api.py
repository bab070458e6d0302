# SPDX-License-Identifier: GPL-2.0-or-later
"""Rackspace against mimic, which speaks its API: what differs from OpenStack."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mock_cloud.cloud.apis.rackspace import RackspaceApi, make_rackspace_api
from mock_cloud.cloud.apis.texts import CredentialsRefused
from mock_cloud.model import Secret
from mock_cloud.settings import RackspaceSettings
from tests.component.openstack_parts import (
    Mimic,
    json_fault,
    make_launch,
    make_remote,
    run_mimic,
)
from tests.lab.clouds.faults import Exchange, Request, Response

pytest.importorskip("mimic", reason="mimic is not installed")

TOKENS = "POST /identity/v2.0/tokens"


@pytest.fixture
def mimic(tmp_path: Path) -> Iterator[Mimic]:
    with run_mimic(tmp_path) as server:
        yield server


@pytest.fixture
def api(mimic: Mimic) -> RackspaceApi:
    settings = RackspaceSettings(
        "ord",
        endpoint=f"{mimic.url}/identity/v2.0/",
        username="me",
        api_key=Secret(b"hidden-key"),
    )
    return make_rackspace_api(make_remote(settings))


def test_a_server_from_its_order_to_its_end(mimic: Mimic, api: RackspaceApi) -> None:
    seen: list[Request] = []

    def look(exchange: Exchange) -> Response:
        seen.append(exchange.request)
        return exchange.forward()

    mimic.proxy.faults.add(look, "POST *", times=None)
    made = api.launch(make_launch(), api.offers("x86_64")[0])
    assert [request.operation for request in seen] == [TOKENS, "POST /servers"]
    assert json.loads(seen[0].body)["auth"]["RAX-KSKEY:apiKeyCredentials"]["username"] == "me"
    # Without one, user-data never reaches a node there.
    assert json.loads(seen[1].body)["server"]["config_drive"] is True
    expired = json_fault(401, {"unauthorized": {"code": 401}})
    mimic.proxy.faults.add(expired, "GET /servers/detail")
    assert [one.handle for one in api.list_tagged()] == [made.handle]
    api.terminate(made.handle)
    assert api.list_tagged() == []
    assert api.list_leftovers() == []


def test_wrong_credentials_are_refused_with_their_source(mimic: Mimic, api: RackspaceApi) -> None:
    mimic.proxy.faults.add(json_fault(401, {"unauthorized": {"code": 401}}), TOKENS, times=None)
    with pytest.raises(CredentialsRefused, match="Rackspace ORD does not accept") as caught:
        api.list_tagged()
    assert "/remotes.d/lab.toml" in caught.value.message
    assert "hidden" not in caught.value.message
