# SPDX-License-Identifier: GPL-2.0-or-later
"""Creating is never repeated on silence: APIs that go on with what they did not answer.

A stopped network service held Nova's answer back for 24 s, and Nova made the server all the same.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count

import pytest

from mock_cloud.cloud.apis.adapter import CloudApi
from mock_cloud.cloud.apis.calls import ATTEMPT_TIMEOUT_S, CREATE_TIMEOUT_S
from mock_cloud.cloud.apis.generic import make_libcloud_api
from mock_cloud.cloud.apis.provider import CloudProvider
from mock_cloud.cloud.apis.rackspace import make_rackspace_api
from mock_cloud.cloud.provider import Bootstrap, CreatedNode, NodeOrder
from mock_cloud.errors import CloudError
from mock_cloud.model import SSH_PORT, Secret
from mock_cloud.settings import (
    CloudSettings,
    LibcloudSettings,
    OpenStackSettings,
    RackspaceSettings,
)
from mock_cloud.sshkeys import make_key_pair
from tests.component.openstack_parts import Mimic, make_api, make_remote, run_mimic
from tests.lab.clouds.faults import RESET, Exchange, Response, html_502, reset_after

pytest.importorskip("mimic", reason="mimic is not installed")

ME = "me@here:0"
LEASE = "a1b2c3d4e5f6"
ADDRESS = "127.31.22.9"
CREATE = "POST /servers"
LIST = "GET /servers/detail"
tenants = (str(number) for number in count(300_000))

Cloud = tuple[CloudApi, CloudSettings]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mimic]:
    with run_mimic(tmp_path_factory.mktemp("mimic")) as server:
        yield server


@pytest.fixture
def mimic(server: Mimic) -> Iterator[Mimic]:
    server.proxy.calls.clear()
    yield server
    server.proxy.faults.clear()


@pytest.fixture(autouse=True)
def greeter() -> Iterator[None]:
    with socket.create_server((ADDRESS, SSH_PORT)) as listener:
        listener.settimeout(0.1)
        done = threading.Event()

        def greet() -> None:
            while not done.is_set():
                try:
                    client, _ = listener.accept()
                except TimeoutError:
                    continue
                with client:
                    client.sendall(b"SSH-2.0-greeter\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        yield
        done.set()
        thread.join()


def _with_address(exchange: Exchange) -> Response:
    answer = exchange.forward()
    if answer.status != 200:
        return answer
    body = json.loads(answer.body)
    one = body.get("server")
    for found in [one] if one else body.get("servers", []):
        found["addresses"] = {"public": [{"version": 4, "addr": ADDRESS}]}
    return replace(answer, body=json.dumps(body).encode())


def _openstack(mimic: Mimic) -> Cloud:
    patience = {
        "timeout_s": 60.0,
        "attempt_s": ATTEMPT_TIMEOUT_S,
        "create_timeout_s": CREATE_TIMEOUT_S,
    }
    return make_api(mimic, next(tenants), **patience), OpenStackSettings()


def _rackspace(mimic: Mimic) -> Cloud:
    url = f"{mimic.url}/identity/v2.0/"
    settings = RackspaceSettings("ord", url, next(tenants), Secret(b"hidden-key"))
    return make_rackspace_api(make_remote(settings)), settings


def _libcloud(mimic: Mimic) -> Cloud:
    url = f"{mimic.url}/identity"
    arguments = {"key": next(tenants), "secret": "pw", "region": "ord", "ex_force_auth_url": url}
    settings = LibcloudSettings("rackspace", arguments)
    return make_libcloud_api(make_remote(settings), ME), settings


Make = Callable[[Mimic], Cloud]
EVERY = pytest.mark.parametrize("make", [_openstack, _rackspace, _libcloud])


class Late:
    """Orders that are not answered, and done when `do` says so."""

    def __init__(self) -> None:
        self._orders: list[Exchange] = []

    def keep(self, exchange: Exchange) -> Response:
        self._orders.append(exchange)
        return RESET

    def do(self) -> None:
        while self._orders:
            assert self._orders.pop().forward().status == 202


def create(mimic: Mimic, cloud: Cloud, look_for_s: float) -> CreatedNode:
    """Whatever faults there are: servers have an address that a greeting comes from."""
    mimic.proxy.faults.add(_with_address, "GET /servers/*", times=None)
    api, settings = cloud
    provider = CloudProvider(api, settings, make_remote(settings), owner=ME, look_for_s=look_for_s)
    return provider.create(
        NodeOrder(LEASE, "lab", ME, "x86_64", time.time() + 600),
        Bootstrap(make_key_pair(), make_key_pair().public, f"mock-cloud-{LEASE}"),
        timeout_s=300.0,
        on_handle=lambda _: None,
        on_phase=lambda _: None,
    )


@EVERY
def test_an_order_that_is_done_later_is_waited_for(mimic: Mimic, make: Make) -> None:
    late, looks = Late(), count()

    def third_look(exchange: Exchange) -> Response:
        if next(looks) == 2:
            late.do()
        return _with_address(exchange)

    mimic.proxy.faults.add(late.keep, CREATE)
    mimic.proxy.faults.add(third_look, LIST, times=None)
    cloud = make(mimic)
    node = create(mimic, cloud, look_for_s=300.0)
    assert mimic.proxy.calls.count(CREATE) == 1
    assert [one.handle for one in cloud[0].list_tagged()] == [node.handle]
    assert node.address.host == ADDRESS


@EVERY
def test_a_twin_that_comes_after_the_second_order_is_ended(mimic: Mimic, make: Make) -> None:
    late = Late()

    def second(exchange: Exchange) -> Response:
        answer = exchange.forward()
        late.do()
        return answer

    mimic.proxy.faults.add(late.keep, CREATE)
    mimic.proxy.faults.add(second, CREATE)
    cloud = make(mimic)
    node = create(mimic, cloud, look_for_s=0.0)
    assert mimic.proxy.calls.count(CREATE) == 2
    assert [one.handle for one in cloud[0].list_tagged()] == [node.handle]


@EVERY
def test_a_twin_that_comes_later_still_goes_with_the_lease(mimic: Mimic, make: Make) -> None:
    late = Late()
    mimic.proxy.faults.add(late.keep, CREATE)
    cloud = make(mimic)
    node = create(mimic, cloud, look_for_s=0.0)
    late.do()
    assert len(cloud[0].list_tagged()) == 2
    api, settings = cloud
    CloudProvider(api, settings, make_remote(settings), owner=ME).destroy(LEASE, node.handle)
    assert api.list_tagged() == []


@EVERY
@pytest.mark.parametrize("fault", [reset_after, html_502(504)])
def test_what_was_done_or_never_will_be_is_ordered_once(
    mimic: Mimic, make: Make, fault: Callable[[Exchange], Response]
) -> None:
    mimic.proxy.faults.add(fault, CREATE)
    cloud = make(mimic)
    node = create(mimic, cloud, look_for_s=0.5)
    assert [one.handle for one in cloud[0].list_tagged()] == [node.handle]


@EVERY
def test_no_answer_at_all_is_an_outage(mimic: Mimic, make: Make) -> None:
    """And what was kept from us is looked for at the end."""
    late = Late()
    mimic.proxy.faults.add(late.keep, CREATE, times=None)
    cloud = make(mimic)
    with pytest.raises(CloudError) as caught:
        create(mimic, cloud, look_for_s=0.0)
    assert caught.value.retryable
    assert mimic.proxy.calls.count(CREATE) == 2


@EVERY
def test_an_order_may_be_silent_for_longer_than_a_question(mimic: Mimic, make: Make) -> None:
    """By libcloud's own setting, as the time itself is nothing for a test."""
    api, _ = cloud = make(mimic)
    seen = []

    def look(exchange: Exchange) -> Response:
        seen.append(_connection(api).timeout)
        return exchange.forward()

    mimic.proxy.faults.add(look, CREATE)
    create(mimic, cloud, look_for_s=0.0)
    assert seen[0][1] == CREATE_TIMEOUT_S > 4 * ATTEMPT_TIMEOUT_S
    assert _connection(api).timeout in (None, ATTEMPT_TIMEOUT_S)


def _connection(api: CloudApi) -> object:
    driver = getattr(api, "_driver", None)
    if driver is None:
        return api._compute()  # type: ignore[attr-defined]
    return (driver() if callable(driver) else driver.library).connection
