# SPDX-License-Identifier: GPL-2.0-or-later
"""The adapter for OpenStack and the real Keystone, Glance, Placement, Nova and Neutron.

Each `row` is one of docs/clouds.md. Servers are entries of a table: nothing answers at their
addresses.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest

from mock_cloud.cloud.apis.adapter import TAG_LEASE, InstanceState
from mock_cloud.cloud.apis.calls import ATTEMPT_TIMEOUT_S
from mock_cloud.cloud.apis.provider import CloudProvider
from mock_cloud.cloud.apis.texts import CredentialsRefused, NoCapacity, QuotaReached
from mock_cloud.cloud.apis.userdata import USER_DATA_MAX_BYTES
from mock_cloud.cloud.apis.waiting import check_alive, wait_until_running
from mock_cloud.cloud.images import TAG_BAKE, TAG_MANIFEST, TAG_OWNER, wait_until_available
from mock_cloud.cloud.provider import Bootstrap, NodeOrder
from mock_cloud.errors import CloudError, ConfigError
from mock_cloud.model import Secret
from mock_cloud.settings import Reach
from mock_cloud.sshkeys import make_key_pair
from tests.lab.relay import Direction, Relay
from tests.real_openstack.cloud import FIRST_PORT
from tests.real_openstack.remotes import OWNER, OpenStackUser
from tests.waiting import wait_for

# openstacksdk has much to say of what it will remove.
pytestmark = [
    pytest.mark.openstack,
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
]
row = pytest.mark.row


def ignore(_: str) -> None:
    """For what is told."""


@row("images: bake, list, share, publish, delete")
def test_an_image_from_its_bake_to_its_end(user: OpenStackUser) -> None:
    api = user.api()
    made = user.launch(api)
    assert made.state is InstanceState.RUNNING
    store = api.images()
    tags = {TAG_BAKE: "b1", TAG_OWNER: OWNER}
    handle = store.create(made.handle, "baked", tags)
    image = wait_until_available(store, handle, timeout_s=300, on_phase=ignore)
    assert (image.sharing, image.is_public) == ((), False)
    store.tag(handle, {TAG_MANIFEST: "0" * 64}, remove=[TAG_BAKE])
    assert [one.handle for one in store.list()] == [handle]
    others = user.api(cloud="other", networks=()).images()
    assert others.find(handle) is None
    other = user.seeded["other"]["project"]
    store.share(handle, [other], public=False)
    shared = store.find(handle)
    assert shared is not None and shared.sharing == (other,)
    assert others.find(handle) is not None
    with pytest.raises(ConfigError, match="is not the id of a project"):
        store.share(handle, ["other"], public=False)
    store.share(handle, [], public=True)
    public = store.find(handle)
    assert public is not None and public.is_public
    assert len(store.list()) == 1
    store.delete(handle)
    assert store.find(handle) is None


@row("creating while the network service stands still")
def test_an_order_that_is_answered_late_is_one_server(user: OpenStackUser) -> None:
    api = user.api()
    neutron = user.cloud.pid("neutron")
    api.list_tagged()  # a token: what is slow is the order
    os.kill(neutron, signal.SIGSTOP)
    timer = threading.Timer(ATTEMPT_TIMEOUT_S + 4, os.kill, (neutron, signal.SIGCONT))
    timer.start()
    began = time.monotonic()
    try:
        made = api.launch(user.order(), api.offers("x86_64")[0])
    finally:
        timer.join()
    assert time.monotonic() - began > ATTEMPT_TIMEOUT_S
    assert [one.handle for one in api.list_tagged()] == [made.handle]


@row("creating while the network service stands still")
def test_an_order_that_is_never_answered_is_looked_for(user: OpenStackUser) -> None:
    """The connection is cut after the order was sent; Nova goes on with it."""
    api = user.api()
    provider = CloudProvider(api, user.remote().cloud, user.remote(), owner=OWNER)  # type: ignore[arg-type]
    launch, offer = user.order(), api.offers("x86_64")[0]
    api.calls._create_timeout_s = 0.5
    made = provider._launch_one(launch, offer, ignore)
    assert not made.is_repeated
    assert [one.handle for one in api.list_tagged()] == [made.instance.handle]


@row("doctor")
def test_doctor_says_what_is_there(user: OpenStackUser) -> None:
    api = user.api(
        images=("name:lab-*",),
        sizes=("name:lab.small", "name:lab.large"),
        zones=("nova",),
        networks=("inside",),
        security_groups=("ssh",),
        floating_ip_pool="outside",
    )
    found = list(api.examine("x86_64"))
    assert all(one.ok and not one.mend for one in found), found
    told = {one.what: one.found for one in found}
    assert told["security groups"] == "port 22 is open to 0.0.0.0/0"
    assert "of 500 ports in use" in told["networks"]
    assert "of 50 addresses in use" in told["floating addresses"]


@row("doctor")
def test_doctor_says_what_is_not_there(user: OpenStackUser) -> None:
    api = user.api(
        images=("nope", "name:nope"),
        sizes=("nope", "name:nope", "name:lab.huge", "name:lab.diskless"),
        zones=("nope",),
        networks=("nope",),
        security_groups=("nope",),
        floating_ip_pool="nope",
    )
    found = list(api.examine("x86_64"))
    assert [one.ok for one in found] == [True] + [False] * (len(found) - 1)
    assert len(found) == 11
    assert all(one.mend for one in found[1:]), found


@row("reach = public, private addresses only")
def test_an_address_that_will_not_come(user: OpenStackUser) -> None:
    api = user.api()
    made = user.launch(api)
    with pytest.raises(
        ConfigError, match=r"no public address; it has private 198\.51\.100\."
    ) as no:
        deadline = time.monotonic() + 300
        wait_until_running(api, made.handle, Reach.PUBLIC, deadline=deadline, on_phase=ignore)
    assert 'reach = "private"' in str(no.value.hint)


@row("quotas")
def test_sizes_beyond_the_quota_and_the_hosts_leave_the_next(user: OpenStackUser) -> None:
    api = user.api(sizes=("name:lab.huge", "name:lab.host", "name:lab.small"))
    huge, host, small = api.offers("x86_64")
    with pytest.raises(QuotaReached, match="Quota exceeded for cores") as caught:
        api.launch(user.order(), huge)
    assert caught.value.is_of_size
    made = api.launch(user.order(), host)
    failed = user.wait(api, made.handle, InstanceState.PENDING)
    with pytest.raises(NoCapacity, match="No valid host was found"):
        check_alive(failed)
    assert api.launch(user.order(), small).handle


@row("quotas")
def test_the_port_quota_is_one(user: OpenStackUser) -> None:
    set_port_quota(user, 1)
    try:
        (told,) = [one for one in user.api().examine("x86_64") if one.what == "networks"]
        assert not told.ok and "ports are in use" in told.found
        with pytest.raises(QuotaReached, match="Maximum number of ports exceeded") as caught:
            api = user.api()
            api.launch(user.order(), api.offers("x86_64")[0])
        assert not caught.value.is_of_size
    finally:
        set_port_quota(user, 500)


def set_port_quota(user: OpenStackUser, limit: int) -> None:
    project = user.seeded["builds"]["project"]
    user.cloud.connect("admin").network.update_quota(project, port=limit)


@row("credentials")
@pytest.mark.parametrize("cloud", ["lab", "password"])
def test_ways_in(user: OpenStackUser, cloud: str) -> None:
    assert list(user.api(cloud=cloud).list_tagged()) == []


@row("credentials")
def test_two_factors_by_openstacksdk(user: OpenStackUser) -> None:
    """The real Keystone refuses the second factor, by name, and is asked once for both."""
    pytest.importorskip("openstack", reason="openstacksdk is not installed")
    entries = user.own_clouds()
    entry = entries["password"]
    entry |= {"auth_type": "v3multifactor", "auth_methods": ["v3password", "v3totp"]}
    entry["auth"]["passcode"] = "123456"
    user.write_clouds(entries)
    with pytest.raises(CredentialsRefused, match="by openstacksdk"):
        user.api(cloud="password").list_tagged()


@row("credentials")
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"application_credential_id": "none"}, "Could not find Application Credential: none"),
        ({"application_credential_secret": "wrong"}, "requires authentication"),
    ],
)
def test_a_credential_that_is_refused(
    user: OpenStackUser, changes: dict[str, str], words: str
) -> None:
    entries = user.own_clouds()
    entries["lab"]["auth"] |= changes
    user.write_clouds(entries)
    with pytest.raises(CredentialsRefused, match=words) as caught:
        user.api().list_tagged()
    assert "{" not in caught.value.message


@row("credentials")
def test_a_token_that_nobody_knows(user: OpenStackUser) -> None:
    entries = user.own_clouds()
    entries["lab"] = {**entries["lab"], "auth_type": "v3token"}
    entries["lab"]["auth"] = {
        "auth_url": user.seeded["keystone"], "token": "gAAAAABnone", "project_id": "0" * 32,
    }  # fmt: skip
    user.write_clouds(entries)
    with pytest.raises(
        CredentialsRefused, match=r"Could not recognize Fernet token|requires authentication"
    ):
        user.api().list_tagged()


@row("hints")
@pytest.mark.parametrize("url", ["nope", f":{FIRST_PORT + 3}"])
def test_an_url_of_something_else(user: OpenStackUser, url: str) -> None:
    entries = user.own_clouds()
    host, _, path = user.seeded["keystone"].rpartition(":")
    entries["lab"]["auth"]["auth_url"] = f"{host}{url}" if url[0] == ":" else f"{host}:{path}/{url}"
    user.write_clouds(entries)
    with pytest.raises(ConfigError) as caught:
        user.api().list_tagged()
    assert "auth_url" in str(caught.value.hint)


@row("hints")
def test_several_networks_and_none_named(user: OpenStackUser) -> None:
    api = user.api(networks=())
    with pytest.raises(ConfigError, match="Multiple possible networks found") as caught:
        api.launch(user.order(), api.offers("x86_64")[0])
    assert "networks" in str(caught.value.hint)


@row("hints")
def test_a_region_that_is_not_there(user: OpenStackUser) -> None:
    with pytest.raises(ConfigError, match="in region 'nope'") as caught:
        user.api(region="nope").list_tagged()
    assert user.seeded["region"] in str(caught.value.hint)


@row("hints")
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"zones": ("nope",)}, "availability zone is not available"),
        ({"security_groups": ("nope",)}, "Unable to find security_group"),
        ({"images": ("lab-stock",)}, "name:PATTERN"),
        ({"sizes": ("name:lab.diskless",)}, "volume_gib"),
        ({"sizes": ("nope",)}, "Flavor nope could not be found"),
    ],
)
def test_an_order_of_what_is_not_there(
    user: OpenStackUser, changes: dict[str, Any], words: str
) -> None:
    api = user.api(**changes)
    with pytest.raises(ConfigError) as caught:
        api.launch(user.order(), api.offers("x86_64")[0])
    assert words in f"{caught.value.message} {caught.value.hint}"


@row("names")
def test_an_image_and_a_flavor_by_name(user: OpenStackUser) -> None:
    made = user.launch(user.api(images=("name:lab-st*",), sizes=("name:lab.large",)))
    found = user.cloud.connect("builds").compute.get_server(made.handle)
    assert (found.image.id, found.flavor.name) == (user.seeded["image"], "lab.large")


@row("one token, few requests")
def test_how_many_requests_a_node_takes(user: OpenStackUser) -> None:
    """A token, the order, one look, the end, and one listing of what else the lease has."""
    flavor = user.api()._names.flavor("name:lab.small")
    network = user.api()._names.networks(("inside",))[0]
    before = {name: len(user.cloud.requests(name)) for name in ("keystone", "nova")}
    api = user.api(sizes=(flavor,), networks=(network,))
    launch = user.order()
    made = api.launch(launch, api.offers("x86_64")[0])
    api.find(made.handle)
    CloudProvider(
        api,
        user.remote().cloud,
        user.remote(),
        owner=OWNER,  # type: ignore[arg-type]
    ).destroy(launch.tags["mock-cloud-lease"], made.handle)
    assert api.calls.count == 4
    asked = user.cloud.requests("keystone")[before["keystone"] :]
    assert sum("mock-cloud/" in line for line in asked) == 1
    deadline = time.monotonic() + 60  # a service logs a request once it has answered it
    ours: list[str] = []
    while len(ours) < 4 and time.monotonic() < deadline:
        time.sleep(0.5)
        asked = user.cloud.requests("nova")[before["nova"] :]
        ours = [line for line in asked if "mock-cloud/" in line]
    assert len(ours) == 4, ours


@row("floating addresses")
def test_a_floating_address_comes_and_goes(user: OpenStackUser) -> None:
    api = user.api(floating_ip_pool="outside", reach=Reach.PUBLIC)
    launch = user.order()
    made = api.launch(launch, api.offers("x86_64")[0])
    _, address = wait_until_running(
        api, made.handle, Reach.PUBLIC, deadline=time.monotonic() + 300, on_phase=ignore
    )
    assert address.startswith("203.0.113.")
    remote = user.remote(floating_ip_pool="outside")
    provider = CloudProvider(api, remote.cloud, remote, owner=OWNER)  # type: ignore[arg-type]
    provider.destroy(launch.tags["mock-cloud-lease"], made.handle)
    deadline = time.monotonic() + 120
    while provider.list_nodes() and time.monotonic() < deadline:
        provider.destroy(launch.tags["mock-cloud-lease"], made.handle)
        time.sleep(1)
    assert provider.list_nodes() == []


@row("console")
def test_the_console(user: OpenStackUser) -> None:
    api = user.api()
    assert "FAKE CONSOLE OUTPUT" in api.console(user.launch(api).handle)


@row("console")
def test_the_console_of_a_server_whose_host_is_gone(user: OpenStackUser) -> None:
    """It is asked for once, and Nova is not taken to be out."""
    api = user.api()
    made = user.launch(api)
    remote = user.remote()
    provider = CloudProvider(api, remote.cloud, remote, owner=OWNER)  # type: ignore[arg-type]
    hosts = [user.cloud.pid(f"nova-compute-{name}") for name in ("lab", "lab-2")]
    for host in hosts:
        os.kill(host, signal.SIGSTOP)
    try:
        assert provider.console_tail(made.handle) == ""
        assert [one.handle for one in api.list_tagged()] == [made.handle]
    finally:
        for host in hosts:
            os.kill(host, signal.SIGCONT)


@row("IPv6 only")
def test_an_address_of_ipv6_only(user: OpenStackUser) -> None:
    api = user.api(networks=("inside6",), reach=Reach.IPV6)
    assert user.launch(api).addresses[Reach.IPV6].startswith("2001:db8:1:")


@row("a locked server")
def test_a_server_that_somebody_locked(user: OpenStackUser) -> None:
    api = user.api()
    made = user.launch(api)

    def act(body: object) -> None:
        path = f"/servers/{made.handle}/action"
        api._compute().request(path, method="POST", data=body)

    act({"lock": None})
    try:
        # Its owner may end it all the same: a lock holds off others of the project.
        api.terminate(made.handle)
    except (ConfigError, CloudError) as error:
        assert "locked" in error.message
        act({"unlock": None})
        api.terminate(made.handle)


@row("limits")
def test_user_data_as_large_as_ours_may_be_and_larger(user: OpenStackUser) -> None:
    api = user.api()
    offer = api.offers("x86_64")[0]
    full = replace(user.order(), user_data=Secret(b"#" * USER_DATA_MAX_BYTES))
    assert api.launch(full, offer).handle
    hush = replace(user.order(), user_data=Secret(b"hush" * 20_000))
    with pytest.raises(ConfigError, match="user_data") as caught:
        api.launch(hush, offer)
    assert "aHVzaGh1c2" not in f"{caught.value.message} {caught.value.hint}"


@row("limits")
def test_metadata_as_long_as_it_may_be_and_longer(user: OpenStackUser) -> None:
    """255 characters, says the compute API's reference; a remote's name and owner are users'."""
    api = user.api()
    offer = api.offers("x86_64")[0]
    order = user.order()
    full = replace(order, tags={**order.tags, TAG_OWNER: "m" * 255})
    made = api.launch(full, offer)
    assert {one.handle: one.tags[TAG_OWNER] for one in api.list_tagged()} == {
        made.handle: "m" * 255
    }
    longer = user.order()
    with pytest.raises(ConfigError, match=f"Invalid input for field/attribute {TAG_OWNER}"):
        api.launch(replace(longer, tags={**longer.tags, TAG_OWNER: "m" * 256}), offer)


@row("limits")
def test_fewer_items_of_metadata_than_ours(user: OpenStackUser) -> None:
    with quota(user, metadata_items=3):
        api = user.api()
        with pytest.raises(QuotaReached, match="Maximum number of metadata items") as caught:
            api.launch(user.order(), api.offers("x86_64")[0])
        assert not caught.value.is_of_size


@row("limits")
def test_no_key_pair_is_made_or_needed(user: OpenStackUser) -> None:
    mine = user.cloud.connect("builds").compute
    with quota(user, key_pairs=0):
        made = user.launch(user.api())
        assert made.state is InstanceState.RUNNING
        assert mine.get_server(made.handle).key_name is None
        assert list(mine.keypairs()) == []


@row("limits")
def test_fifty_servers_listed_in_pages(user: OpenStackUser) -> None:
    """Nova gives a page of twenty, whatever is asked for (`services/up.py`)."""
    launch = user.order()
    with quota(user, instances=60, cores=120, ram=60 * 64):
        api = user.api()
        server = api._server(launch, api.offers("x86_64")[0])
        body = {"server": {**server, "min_count": 50, "max_count": 50}}
        api._compute().request("/servers", method="POST", data=body)
        page = api._compute().request("/servers/detail").object
        assert len(page["servers"]) == 20
        lease = launch.tags[TAG_LEASE]
        wait_for(lambda: len(api.list_tagged(lease)) == 50)
        assert len({one.handle for one in api.list_tagged()}) == 50
        remote = user.remote()
        provider = CloudProvider(api, remote.cloud, remote, owner=OWNER)  # type: ignore[arg-type]
        assert len(provider.list_nodes()) == 50
        provider.destroy(lease, "")
        mine = user.cloud.connect("builds").compute
        wait_for(lambda: not list(mine.servers()), 600)


@contextmanager
def quota(user: OpenStackUser, **limits: int) -> Iterator[None]:
    """Nova's quotas of the project while the block runs, and the usual ones afterwards."""
    compute, project = user.cloud.connect("admin").compute, user.seeded["builds"]["project"]
    compute.update_quota_set(project, **limits)
    try:
        yield
    finally:
        compute.revert_quota_set(project)


@row("regions")
def test_a_region_is_asked_at_its_own_address(user: OpenStackUser) -> None:
    """RegionTwo's Nova is the first one's behind another address, where it is seen being asked."""
    host, port = urlsplit(user.cloud.connect("admin").endpoint_for("compute")).netloc.split(":")
    with Relay((host, int(port))) as line, second_region(user, line.address[1]):
        here, there = user.api(region=user.seeded["region"]), user.api(region="RegionTwo")
        assert list(here.list_tagged()) == []
        assert line.moved_bytes(Direction.UP) == 0
        assert list(there.list_tagged()) == []
        assert line.moved_bytes(Direction.UP) > 0
        assert "(RegionTwo)" in there.calls.service
        with pytest.raises(ConfigError) as caught:
            user.api(region="RegionThree").list_tagged()
        assert {"RegionOne", "RegionTwo"} <= set(re.findall(r"\w+", str(caught.value.hint)))


@contextmanager
def second_region(user: OpenStackUser, port: int) -> Iterator[None]:
    """In Keystone's catalog, with Nova's endpoint at `port`."""
    identity = user.cloud.connect("admin").identity
    _remove_region(identity)  # of a run that was killed
    identity.create_region(id="RegionTwo")
    (nova,) = (one for one in identity.services() if one.type == "compute")
    made = identity.create_endpoint(
        service_id=nova.id, interface="public", region_id="RegionTwo",
        url=f"http://127.0.0.1:{port}/v2.1",
    )  # fmt: skip
    try:
        yield
    finally:
        assert made
        _remove_region(identity)


def _remove_region(identity: Any) -> None:
    for one in identity.endpoints():
        if one.region_id == "RegionTwo":
            identity.delete_endpoint(one)
    for one in identity.regions():
        if one.id == "RegionTwo":
            identity.delete_region(one)


@row("zones")
def test_a_zone_that_is_full_leaves_the_next(user: OpenStackUser) -> None:
    """Each of the two hosts is a zone, and has room for one server of this size."""
    with second_zone(user) as zone, flavor(user, ram=8000) as size:
        api = user.api(sizes=(f"name:{size}",), zones=(zone, "nova"))
        (told,) = [one for one in api.examine("x86_64") if one.what == "zones"]
        assert told.ok, told
        made = user.launch(api)
        assert made.state is InstanceState.RUNNING, made
        assert zone_of(user, made.handle) == zone
        remote = user.remote()
        provider = CloudProvider(api, remote.cloud, remote, owner=OWNER)  # type: ignore[arg-type]
        phases: list[str] = []
        handles: list[str] = []

        def look(phase: str) -> None:
            phases.append(phase)
            if " boots at " in phase:  # where nobody will answer
                raise CloudError(f"in {zone_of(user, handles[-1])}")

        order = NodeOrder("facade02", "lab", OWNER, "x86_64", time.time() + 3600)
        keys = make_key_pair()
        with pytest.raises(CloudError, match="in nova"):
            provider.create(
                order, Bootstrap(keys, keys.public, "mock-cloud-facade02"), timeout_s=1800.0,
                on_handle=handles.append, on_phase=look,
            )  # fmt: skip
        assert any(zone in one and "to be had" in one for one in phases), phases
        user.clean_up()  # a host changes its zone without servers only


def zone_of(user: OpenStackUser, handle: str) -> str:
    """Where Nova says that a server is; empty as long as it is nowhere."""
    found = user.cloud.connect("admin").compute.find_server(handle, all_projects=True)
    return (found and found.availability_zone) or ""


@contextmanager
def second_zone(user: OpenStackUser) -> Iterator[str]:
    """The second host's own zone while the block runs; both are "nova" otherwise."""
    compute = user.cloud.connect("admin").compute
    _remove_zones(compute)  # of a run that was killed
    made = compute.create_aggregate(name="second", availability_zone="second")
    try:
        compute.add_host_to_aggregate(made, "lab-2")
        yield "second"
    finally:
        _remove_zones(compute)


def _remove_zones(compute: Any) -> None:
    for one in compute.aggregates():
        for host in one.hosts or ():
            compute.remove_host_from_aggregate(one, host)
        compute.delete_aggregate(one)


@contextmanager
def flavor(user: OpenStackUser, *, ram: int) -> Iterator[str]:
    compute = user.cloud.connect("admin").compute
    name = f"lab.{ram}"
    there = compute.find_flavor(name)
    made = there or compute.create_flavor(name=name, vcpus=1, ram=ram, disk=1)
    try:
        yield name
    finally:
        compute.delete_flavor(made)


@row("an API that dies midway")
def test_nova_is_away_for_a_while(user: OpenStackUser) -> None:
    api = user.api()
    made = user.launch(api)
    nova = user.cloud.pid("nova")
    os.kill(nova, signal.SIGSTOP)
    timer = threading.Timer(5, os.kill, (nova, signal.SIGCONT))
    timer.start()
    try:
        assert api.find(made.handle) is not None
    finally:
        timer.join()


@row("an API that dies midway")
def test_nova_dies_while_it_makes_a_server(user: OpenStackUser) -> None:
    """It is started again (`services/up.py`): there is one server, whatever it had done before."""
    api = user.api()
    remote = user.remote()
    provider = CloudProvider(api, remote.cloud, remote, owner=OWNER)  # type: ignore[arg-type]
    offer = api.offers("x86_64")[0]
    api.list_tagged()  # a token and Nova's address
    nova, asked = user.cloud.pid("nova"), len(user.cloud.requests("keystone"))

    def kill_nova() -> None:  # once it has begun: it has shown Keystone our token
        wait_for(lambda: len(user.cloud.requests("keystone")) > asked)
        os.kill(nova, signal.SIGKILL)

    killing = threading.Thread(target=kill_nova)
    killing.start()
    try:
        made = provider._launch_one(user.order(), offer, ignore)
    finally:
        killing.join()
    assert [one.handle for one in api.list_tagged()] == [made.instance.handle]
    assert user.cloud.pid("nova") != nova


@row("a node without an sshd")
def test_nothing_is_left_of_a_node_that_never_answers(user: OpenStackUser) -> None:
    remote = user.remote(boot_timeout_s=20.0)
    api = user.api(boot_timeout_s=20.0)
    provider = CloudProvider(api, remote.cloud, remote, owner=OWNER)  # type: ignore[arg-type]
    order = NodeOrder("facade00", "lab", OWNER, "x86_64", time.time() + 600)
    keys = make_key_pair()
    with pytest.raises(CloudError):
        provider.create(
            order, Bootstrap(keys, keys.public, "mock-cloud-facade00"), timeout_s=60.0,
            on_handle=ignore, on_phase=ignore,
        )  # fmt: skip
    assert provider.list_nodes() == []
