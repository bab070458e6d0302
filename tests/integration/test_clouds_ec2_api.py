# SPDX-License-Identifier: GPL-2.0-or-later
"""EC2's API at its worst: each fault is provoked in the proxy, and nothing is left or paid twice.

Instances of these tests are given back before they have booted.
"""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from mock_cloud.cloud.apis.adapter import TAG_LEASE, InstanceState
from mock_cloud.cloud.apis.texts import (
    CloudIsOut,
    CredentialsRefused,
    NoCapacity,
    OutcomeUnknown,
    QuotaReached,
)
from mock_cloud.cloud.images import TAG_OWNER
from mock_cloud.errors import CleanupError, CloudError, ConfigError
from mock_cloud.model import Secret
from mock_cloud.settings import Market
from tests.fault_table import saw
from tests.integration.ec2_remote import Account, make_launch
from tests.lab.clouds import ec2_xml, faults
from tests.lab.clouds.ec2 import Ec2Cloud

pytestmark = pytest.mark.lab

LEASE = "0123456789ab"
ARM_IMAGE = (
    '<DescribeImagesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><imagesSet><item>'
    "<imageId>ami-1</imageId><architecture>arm64</architecture></item></imagesSet>"
    "</DescribeImagesResponse>"
)


@pytest.fixture
def account(ec2: Ec2Cloud) -> Account:
    return Account(ec2)


def tag(lease_id: str, kind: str = "volume", owner: str = "somebody@lab:0") -> list[object]:
    tags = [{"Key": TAG_LEASE, "Value": lease_id}, {"Key": TAG_OWNER, "Value": owner}]
    return [{"ResourceType": kind, "Tags": tags}]


@pytest.mark.fault(1)
def test_1_wrong_credentials_fail_at_once_and_are_named_by_their_source(account: Account) -> None:
    account.settings = {"access_key_id": "AKIAWRONG"}
    with pytest.raises(CredentialsRefused) as caught:
        account.api().list_tagged()
    assert len(account.cloud.calls) == 1
    assert "credentials from /etc/mock/remotes.d/lab.toml" in caught.value.message
    assert "AKIAWRONG" not in caught.value.message
    assert account.cloud.calls.count("DescribeInstances") == 1
    saw(f"{caught.value.exit_code}: {caught.value.message}")


@pytest.mark.fault(2)
def test_2_an_expired_token_is_read_again_for_the_clean_up(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.settings = {"access_key_id": "", "secret_access_key": None}
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIALABLABLABLABLAB0")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "lab/secret+key/that/opens/nothing/anywhere")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "old")
    api = account.api()
    made = api.launch(make_launch(), api.offers("x86_64")[0])
    account.cloud.faults.add(ec2_xml.expired(), on="TerminateInstances")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "new")
    api.terminate(made.handle)
    assert account.cloud.listing().is_empty


@pytest.mark.fault(3)
def test_3_throttling_is_waited_out_and_told(account: Account) -> None:
    account.cloud.faults.add(ec2_xml.throttled(), on="RunInstances", times=2)
    api = account.api()
    with api.calls.telling(account.told.append):
        made = api.launch(make_launch(), api.offers("x86_64")[0])
    assert account.cloud.calls.count("RunInstances") == 3
    assert [line for line in account.told if "is throttling us" in line]
    assert account.cloud.listing().instances == (made.handle,)


BROKEN = [
    faults.html_502(),
    faults.reset,
    faults.flood(1 << 16),
    ec2_xml.failing(500, "InternalError"),
]


@pytest.mark.parametrize("fault", BROKEN, ids=["html", "reset", "flood", "500"])
@pytest.mark.fault(4)
def test_4_reads_go_on_past_a_broken_answer(account: Account, fault: faults.Fault) -> None:
    account.cloud.faults.add(fault, on="DescribeInstances", times=2)
    assert account.api().list_tagged() == []
    assert account.cloud.calls.count("DescribeInstances") == 3


@pytest.mark.parametrize("fault", [faults.swallow, faults.reset_after], ids=["silence", "reset"])
@pytest.mark.fault(5)
def test_5_a_launch_without_an_answer_is_adopted(account: Account, fault: faults.Fault) -> None:
    account.call_timeout_s = 3.0
    armed = account.cloud.faults.add(fault, on="RunInstances")
    api = account.api()
    made = api.launch(make_launch(), api.offers("x86_64")[0])
    assert armed.hits == 1
    assert account.cloud.listing().instances == (made.handle,)


@pytest.mark.fault(5)
def test_5_the_provider_asks_once_more_with_the_same_token(account: Account) -> None:
    account.call_timeout_s = 2.0
    account.cloud.faults.add(faults.reset_after, on="RunInstances", for_s=2.5, times=None)
    api = account.api()
    launch, offer = make_launch(), api.offers("x86_64")[0]
    with pytest.raises(OutcomeUnknown):
        api.launch(launch, offer)
    account.cloud.faults.clear()
    again = account.api()
    made = again.launch(launch, offer)
    assert account.cloud.listing().instances == (made.handle,)


@pytest.mark.fault(6)
def test_6_of_duplicates_the_oldest_is_kept(account: Account) -> None:
    launch = make_launch()
    older = account.cloud.client.run_instances(
        ImageId=account.cloud.image_id,
        MinCount=1,
        MaxCount=1,
        ClientToken=launch.token,
        TagSpecifications=tag(LEASE, "instance"),
    )["Instances"][0]["InstanceId"]
    time.sleep(1.1)  # the API tells of launches by the second
    account.cloud.faults.add(faults.html_502(), on="RunInstances")
    api = account.api()
    assert api.launch(launch, api.offers("x86_64")[0]).handle == older
    assert account.cloud.listing().instances == (older,)
    assert account.cloud.calls.count("TerminateInstances") == 1


@pytest.mark.fault(7)
def test_7_without_capacity_the_next_size_and_then_on_demand(account: Account) -> None:
    account.sizes = ("c7i.xlarge", "t3.small")
    account.settings = {"market": Market.SPOT_FIRST}
    for size in account.sizes:
        spot = {"InstanceType": size, "InstanceMarketOptions.MarketType": "spot"}
        account.cloud.faults.add(ec2_xml.no_capacity(), on="RunInstances", when=spot)
    account.cloud.faults.add(
        ec2_xml.no_capacity(), on="RunInstances", when={"InstanceType": "c7i.xlarge"}
    )
    account.cloud.faults.add(faults.hang, on="DescribeInstances", times=None)
    account.call_timeout_s = 1.0
    with pytest.raises(CloudError):
        account.create(timeout_s=1.0)
    asked = [line for line in account.told if line.startswith("asking")]
    assert [line.split(" for ")[1].split()[0] for line in asked] == [*account.sizes] * 2
    assert ["spot" in line for line in asked] == [True, True, False, False]


@pytest.mark.fault(7)
def test_7_no_offer_left_names_them_all(account: Account) -> None:
    account.sizes = ("c7i.xlarge", "t3.small")
    account.cloud.faults.add(ec2_xml.no_capacity(), on="RunInstances", times=None)
    with pytest.raises(NoCapacity, match=r"c7i.xlarge .*; t3.small .*sufficient capacity"):
        account.create()
    assert account.cloud.calls.count("RunInstances") == 2


@pytest.mark.fault(8)
def test_8_a_quota_of_vcpus_is_named_and_each_size_tried_once(account: Account) -> None:
    """It is one of a family of sizes: another family, or a smaller size, may be within its own."""
    account.sizes = ("c7i.xlarge", "t3.small")
    account.cloud.faults.add(ec2_xml.over_quota(), on="RunInstances", times=None)
    with pytest.raises(QuotaReached, match=r"VcpuLimitExceeded.*vCPU limit of 8") as caught:
        account.create()
    assert not caught.value.retryable
    assert account.cloud.calls.count("RunInstances") == 2
    saw(f"{caught.value.exit_code}: {caught.value.message}")


@pytest.mark.fault(8)
def test_8_another_quota_ends_the_list(account: Account) -> None:
    account.sizes = ("c7i.xlarge", "t3.small")
    fault = ec2_xml.failing(400, "VolumeLimitExceeded", "Maximum of 20 TiB of volumes")
    account.cloud.faults.add(fault, on="RunInstances", times=None)
    with pytest.raises(QuotaReached, match=r"Maximum of 20 TiB"):
        account.create()
    assert account.cloud.calls.count("RunInstances") == 1


@pytest.mark.fault(9)
def test_9_an_instance_that_ends_while_pending_stops_the_wait(account: Account) -> None:
    code, text = "Client.VolumeLimitExceeded", "Volume limit exceeded"
    account.cloud.faults.add(account.cloud.dying(code, text), on="RunInstances")
    with pytest.raises(CloudError, match=f"is ended: {code}: {text}"):
        account.create()
    assert account.cloud.listing().is_empty


@pytest.mark.fault(9)
def test_9_a_spot_node_taken_back_says_so(account: Account) -> None:
    api = account.api()
    code, text = "Server.SpotInstanceTermination", "Server.SpotInstanceTermination: taken back"
    account.cloud.faults.add(account.cloud.dying(code, text), on="RunInstances")
    made = api.launch(make_launch(), api.offers("x86_64")[0])
    found = api.find(made.handle)
    while found is not None and found.state is not InstanceState.ENDED:
        found = api.find(made.handle)
    assert found is not None and found.reason == text


def test_what_a_list_does_not_show_yet_is_waited_for(account: Account) -> None:
    account.cloud.faults.add(ec2_xml.not_found(), on="DescribeInstances", times=1)
    account.cloud.faults.add(ec2_xml.empty_list(), on="DescribeInstances", times=1)
    api = account.api()
    made = api.launch(make_launch(), api.offers("x86_64")[0])
    assert [api.find(made.handle) for _ in range(2)] == [None, None]
    assert api.find(made.handle) is not None


@pytest.mark.fault(37)
def test_37_a_clean_up_that_fails_names_what_is_left_and_works_later(account: Account) -> None:
    account.call_timeout_s = 1.0
    provider, api = account.provider(), account.api()
    made = api.launch(make_launch(), api.offers("x86_64")[0])
    armed = account.cloud.faults.add(faults.html_502(), on="Terminate*", times=None)
    with pytest.raises(CleanupError, match=made.handle):
        provider.destroy(LEASE, made.handle)
    armed.lift()
    for _ in range(2):
        account.provider().destroy(LEASE, made.handle)
    assert account.cloud.listing().is_empty


@pytest.mark.fault(37)
def test_37_an_order_whose_answer_was_lost_is_destroyed_by_its_tag(account: Account) -> None:
    api = account.api()
    api.launch(make_launch(), api.offers("x86_64")[0])
    other = api.launch(make_launch("ba9876543210"), api.offers("x86_64")[0])
    account.provider().destroy(LEASE, "")
    assert account.cloud.listing().instances == (other.handle,)


@pytest.mark.fault(38)
def test_38_what_outlives_its_node_is_found_by_its_tag_and_removed(account: Account) -> None:
    client = account.cloud.client
    client.create_volume(AvailabilityZone="us-east-1a", Size=1, TagSpecifications=tag(LEASE))
    client.allocate_address(Domain="vpc", TagSpecifications=tag(LEASE, "elastic-ip"))
    client.create_security_group(
        GroupName="left", Description="x", TagSpecifications=tag(LEASE, "security-group")
    )
    foreign = client.create_volume(AvailabilityZone="us-east-1a", Size=1)["VolumeId"]
    provider = account.provider()
    (found,) = provider.list_nodes()
    assert (found.lease_id, found.owner, found.running) == (LEASE, "somebody@lab:0", False)
    provider.destroy(found.lease_id, found.handle)
    left = account.cloud.listing()
    assert (left.volumes, left.addresses, left.groups) == ((foreign,), (), ())
    assert provider.list_nodes() == []


@pytest.mark.fault(38)
def test_38_a_living_node_keeps_what_it_has(account: Account) -> None:
    api = account.api()
    made = api.launch(make_launch(), api.offers("x86_64")[0])
    volumes = account.cloud.listing().volumes
    assert volumes and api.list_leftovers() == []
    tags = account.cloud.client.describe_volumes(VolumeIds=list(volumes))["Volumes"][0]["Tags"]
    assert {item["Key"]: item["Value"] for item in tags}[TAG_LEASE] == LEASE
    account.provider().destroy(LEASE, made.handle)
    assert account.cloud.listing().is_empty


@pytest.mark.fault(41)
def test_41_a_cloud_that_is_out_is_not_asked_again(account: Account) -> None:
    account.call_timeout_s = 1.5
    account.cloud.faults.add(faults.html_502(), times=None)
    api = account.api()
    with pytest.raises(CloudIsOut, match="none of the API's: '502 Bad Gateway 502'"):
        api.list_tagged()
    asked = len(account.cloud.calls)
    with pytest.raises(CloudIsOut, match="not asked again in this run"):
        api.find("i-0123456789abcdef0")
    assert len(account.cloud.calls) == asked


def test_an_image_that_is_not_there_is_the_users_to_mend(account: Account) -> None:
    api = account.api()
    offer = replace(api.offers("x86_64")[0], image="ami-00000000000000000")
    with pytest.raises(ConfigError, match="ami-0000"):
        api.launch(make_launch(), offer)
    assert account.cloud.calls.count("RunInstances") == 0


@pytest.mark.fault(35)
def test_35_an_image_of_another_architecture_costs_nothing(account: Account) -> None:
    # moto forgets what an image was registered with.
    account.cloud.faults.add(faults.answer(200, ARM_IMAGE, "text/xml"), on="DescribeImages")
    api = account.api()
    with pytest.raises(ConfigError, match="is of architecture arm64, not x86_64"):
        api.launch(make_launch(), api.offers("x86_64")[0])
    assert account.cloud.calls.count("RunInstances") == 0


def test_an_instance_is_as_it_must_be(account: Account) -> None:
    api = account.api()
    launch = replace(make_launch(), user_data=Secret(b"#cloud-config\n{}\n"))
    made = api.launch(launch, api.offers("x86_64")[0])
    client = account.cloud.client
    told = client.describe_instances(InstanceIds=[made.handle])["Reservations"][0]["Instances"][0]
    assert told["MetadataOptions"]["HttpTokens"] == "required"
    assert told["MetadataOptions"]["HttpPutResponseHopLimit"] == 1
    assert told["BlockDeviceMappings"][0]["Ebs"]["DeleteOnTermination"] is True
    behaviour = client.describe_instance_attribute(
        InstanceId=made.handle, Attribute="instanceInitiatedShutdownBehavior"
    )
    assert behaviour["InstanceInitiatedShutdownBehavior"]["Value"] == "terminate"
    tags = {item["Key"]: item["Value"] for item in told["Tags"]}
    assert tags == {**launch.tags, "Name": launch.name}
    assert account.cloud.listing().key_pairs == ()
