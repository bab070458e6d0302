# SPDX-License-Identifier: GPL-2.0-or-later
"""EC2 as Amazon's API reference has it, where moto is kinder: docs/clouds.md has the list.

That each request of the other tests is one that Amazon takes is seen to by `tests.lab.clouds.aws`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from botocore.exceptions import ClientError

from mock_cloud.cloud.apis import ec2_leftovers
from mock_cloud.cloud.apis.adapter import Leftover
from mock_cloud.cloud.apis.ec2 import Ec2Api
from mock_cloud.cloud.apis.provider import CloudProvider
from mock_cloud.cloud.apis.texts import CredentialsRefused, NotThere
from mock_cloud.cloud.images import TAG_BAKE, TAG_OWNER, ImageState
from mock_cloud.errors import CleanupError, CloudError
from mock_cloud.settings import Market
from tests.integration.cloud_support import connect, run
from tests.integration.ec2_remote import Account, make_launch
from tests.lab.clouds import ec2_xml
from tests.lab.clouds.actions import called_actions
from tests.lab.clouds.ec2 import ACCESS_KEY, ADMINISTRATOR, Ec2Cloud

pytestmark = pytest.mark.lab

LEASE = "0123456789ab"


@pytest.fixture
def account(ec2: Ec2Cloud) -> Account:
    return Account(ec2)


def one_run(account: Account) -> tuple[Ec2Api, CloudProvider]:
    """Adapter and provider that know what the same run has made."""
    api, remote = account.api(), account.remote()
    assert remote.cloud is not None
    return api, CloudProvider(api, remote.cloud, remote, owner="somebody@lab:0")


def test_a_node_that_ec2_has_not_heard_of_yet_is_ended_all_the_same(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was made a second ago may be unknown to the part of EC2 that is asked to end it."""
    monkeypatch.setattr("mock_cloud.cloud.apis.ec2._LOOK_S", 0.1)
    api, provider = one_run(account)
    made = api.launch(make_launch(), api.offers("x86_64")[0])
    account.cloud.faults.add(ec2_xml.not_found(), on="TerminateInstances", times=2)
    account.cloud.faults.add(ec2_xml.empty_list(), on="DescribeInstances", times=None)
    provider.destroy(LEASE, made.handle)
    assert account.cloud.calls.count("TerminateInstances") == 3
    assert account.cloud.listing().is_empty


def test_what_ec2_never_hears_of_is_not_said_to_be_gone(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mock_cloud.cloud.apis.ec2._LOOK_S", 0.1)
    monkeypatch.setattr("mock_cloud.cloud.apis.ec2._UNHEARD_S", 0.5)
    api, provider = one_run(account)
    made = api.launch(make_launch(), api.offers("x86_64")[0])
    account.cloud.faults.add(ec2_xml.not_found(), on="Terminate*", times=None)
    account.cloud.faults.add(ec2_xml.empty_list(), on="DescribeInstances", times=None)
    with pytest.raises(CleanupError, match=f"{made.handle}.*made in this run"):
        provider.destroy(LEASE, made.handle)
    account.cloud.faults.clear()
    provider.destroy(LEASE, made.handle)
    assert account.cloud.listing().is_empty


def test_a_list_comes_in_pages_and_an_empty_one_is_not_the_last(account: Account) -> None:
    api = account.api()
    for number in range(3):
        api.launch(make_launch(number=number), api.offers("x86_64")[0])
    account.cloud.page_max = 1
    account.cloud.calls.clear()
    assert len(api.list_tagged(LEASE)) == 3
    assert account.cloud.calls.count("DescribeInstances") == 3
    account.provider().destroy(LEASE, "")
    assert account.cloud.listing().instances == ()


def test_a_user_who_may_not_tag_is_told_so_and_pays_nothing(account: Account) -> None:
    account.cloud.faults.add(ec2_xml.no_right("CreateTags"), on="RunInstances", times=None)
    with pytest.raises(CredentialsRefused) as caught:
        account.create()
    assert "is not authorized to perform: ec2:CreateTags" in caught.value.message
    assert "Encoded" not in caught.value.message and len(caught.value.message) < 500
    assert "cloud-admin.md" in (caught.value.hint or "")
    assert account.cloud.listing().is_empty


def test_doctor_asks_by_a_dry_run_whether_a_node_may_be_started(account: Account) -> None:
    findings = account.api().examine("x86_64")
    assert all(one.ok for one in findings), findings
    assert findings[-1].what == "starting a node" and findings[-1].ok
    assert account.cloud.listing().is_empty
    account.cloud.faults.add(ec2_xml.no_right("RunInstances"), on="RunInstances")
    last = account.api().examine("x86_64")[-1]
    assert not last.ok and "ec2:RunInstances" in last.found
    assert account.cloud.listing().is_empty


def test_room_that_turns_out_to_be_none_leads_to_the_next_size(account: Account) -> None:
    account.sizes = ("c7i.xlarge", "t3.small")
    code = "Server.InsufficientInstanceCapacity"
    account.cloud.faults.add(
        account.cloud.dying(code, f"{code}: no room"),
        on="RunInstances",
        when={"InstanceType": "c7i.xlarge"},
    )
    node, _ = account.create()
    assert node.kind.startswith("t3.small")
    account.provider().destroy(LEASE, node.handle)
    assert account.cloud.listing().is_empty


def test_an_image_is_there_when_ec2_says_so(account: Account) -> None:
    api = account.api()
    made = api.launch(make_launch(), api.offers("x86_64")[0])
    store = api.images()
    image = store.create(made.handle, "baked", {TAG_BAKE: "1"})
    account.cloud.faults.add(ec2_xml.image_state("pending"), on="DescribeImages")
    found = [store.find(image) for _ in range(2)]
    assert [one and one.state for one in found] == [ImageState.PENDING, ImageState.AVAILABLE]
    failed = ec2_xml.image_state("failed", "the snapshot was lost")
    account.cloud.faults.add(failed, on="DescribeImages")
    broken = store.find(image)
    assert broken and broken.state is ImageState.FAILED
    assert "the snapshot was lost" in broken.reason
    fault = ec2_xml.failing(400, "InvalidSnapshot.InUse", "is in use by ami-1")
    account.cloud.faults.add(fault, on="DeleteSnapshot")
    store.delete(image)
    account.provider().destroy(LEASE, made.handle)
    assert account.cloud.listing().instances == ()


@pytest.mark.parametrize("operation", ["DescribeInstances", "RunInstances", "TerminateInstances"])
def test_each_call_waits_where_ec2_throttles(account: Account, operation: str) -> None:
    account.cloud.faults.add(ec2_xml.throttled(), on=operation, times=2)
    api = account.api()
    made = api.launch(make_launch(), api.offers("x86_64")[0])
    api.list_tagged(LEASE)
    api.terminate(made.handle)
    assert account.cloud.listing().is_empty


def test_amazon_takes_each_request_that_there_is(account: Account) -> None:
    client = account.cloud.client
    subnet = client.describe_subnets()["Subnets"][0]["SubnetId"]
    group = client.describe_security_groups()["SecurityGroups"][0]["GroupId"]
    account.settings = {"market": Market.SPOT, "subnets": (subnet,), "security_groups": (group,)}
    # Some of what is ended below was never there, and so has no tag.
    account.settings["access_key_id"] = ADMINISTRATOR
    api = account.api()
    api.examine("x86_64")
    for key in ("images", "sizes", "security_groups", "subnets", "zones"):
        api.choices().find(key, "x86_64")
    made = api.launch(make_launch(), api.offers("x86_64")[0])
    assert api.find(made.handle) is not None and len(api.list_tagged()) == 1
    api.list_leftovers()
    api.list_leftovers(LEASE)
    api.console(made.handle)
    api.explain_silence(made.handle)
    store = api.images()
    image = store.create(made.handle, "baked", {TAG_BAKE: "1"})
    store.tag(image, {TAG_OWNER: "somebody"}, remove=[TAG_BAKE])
    store.share(image, ["123456789012"], public=True)
    store.list()
    store.delete(image)
    api.terminate(made.handle)
    connection = api._connection
    for prefix, kind in ec2_leftovers._KINDS.items():
        of_kind = Leftover(kind.name, f"{prefix}-0123456789abcdef0", {})
        for ask in (
            lambda kind=kind, one=of_kind: ec2_leftovers._free(connection, kind, {one.handle: one}),
            lambda one=of_kind: ec2_leftovers.remove_leftover(connection, one),
        ):
            with suppress(NotThere, CloudError):  # there is none; what is malformed is ConfigError
                ask()
    assert called_actions() <= set(account.cloud.calls.operations())
    assert not [call for call in account.cloud.calls if call.status == 403]


Spoil = Callable[[Any], None]


def other_word(request: Any) -> None:
    request.data["InstanceTyp"] = "t3.small"


def other_value(request: Any) -> None:
    request.data["InstanceInitiatedShutdownBehavior"] = "vanish"


def no_number(request: Any) -> None:
    request.data["MinCount"] = "one"


def without_count(request: Any) -> None:
    del request.data["MaxCount"]


def long_user_data(request: Any) -> None:
    request.data["UserData"] = "QUFB" * 6000


def foreign_tag(request: Any) -> None:
    request.data["TagSpecification.1.ResourceType"] = "instance"
    request.data["TagSpecification.1.Tag.1.Key"] = "aws:mine"
    request.data["TagSpecification.1.Tag.1.Value"] = "x"


def two_places(request: Any) -> None:
    request.data["NetworkInterface.1.DeviceIndex"] = "0"
    request.data["SecurityGroupId.1"] = "sg-1"


@pytest.mark.parametrize(
    "spoil",
    [other_word, other_value, no_number, without_count, long_user_data, foreign_tag, two_places],
)
def test_the_judge_refuses_what_amazon_would(ec2: Ec2Cloud, spoil: Spoil) -> None:
    client = connect(ec2)
    client.meta.events.register(
        "request-created.ec2.RunInstances", lambda request, **_: spoil(request)
    )
    with pytest.raises(ClientError, match="InvalidParameterValue"):
        run(client, ec2)
    assert ec2.listing().is_empty


def test_the_judge_computes_the_signature_itself(ec2: Ec2Cloud) -> None:
    client = connect(ec2)

    def change(request: Any, **_: Any) -> None:
        request.body = request.body.replace("t3.small", "t3.large")

    client.meta.events.register("before-send.ec2.RunInstances", change)
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        run(client, ec2)
    assert ec2.listing().is_empty


def test_the_lab_holds_each_request_to_the_documented_rights(ec2: Ec2Cloud) -> None:
    """`tests.lab.clouds.iam`: without a tag nothing is started, ended or tagged."""
    client = connect(ec2, ACCESS_KEY)
    with pytest.raises(ClientError, match=r"not authorized .*RunInstances on .*:instance/\*"):
        run(client, ec2)
    foreign = run(connect(ec2), ec2)
    mine = [{"Key": TAG_OWNER, "Value": "somebody@lab:0"}]
    calls: list[tuple[str, Callable[[], object]]] = [
        ("TerminateInstances", lambda: client.terminate_instances(InstanceIds=[foreign])),
        ("CreateTags", lambda: client.create_tags(Resources=[foreign], Tags=mine)),
        ("CreateKeyPair", lambda: client.create_key_pair(KeyName="x")),
    ]
    for action, call in calls:
        with pytest.raises(ClientError, match=f"not authorized .*ec2:{action}"):
            call()
    connect(ec2).terminate_instances(InstanceIds=[foreign])
