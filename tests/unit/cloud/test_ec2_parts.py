# SPDX-License-Identifier: GPL-2.0-or-later
"""EC2 in parts: its answers, its errors, its requests, and the order of offers."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from mock_cloud.cloud.apis.adapter import TAG_LEASE, InstanceState, Launch, Offer
from mock_cloud.cloud.apis.calls import Diagnosis, FailureKind
from mock_cloud.cloud.apis.ec2 import Ec2Api
from mock_cloud.cloud.apis.ec2_answers import (
    ImageFacts,
    OddAnswer,
    items_at,
    parse_error,
    parse_image,
    parse_instances,
)
from mock_cloud.cloud.apis.ec2_failures import InUse, make_classifier
from mock_cloud.cloud.apis.ec2_groups import explain_rules, ssh_sources
from mock_cloud.cloud.apis.ec2_requests import launch_parameters
from mock_cloud.cloud.apis.texts import CredentialsRefused, NoCapacity, NotThere, QuotaReached
from mock_cloud.cloud.images import TAG_OWNER
from mock_cloud.errors import ConfigError
from mock_cloud.model import Secret
from mock_cloud.settings import (
    AttestSettings,
    Ec2Settings,
    Market,
    NodeSettings,
    Reach,
    Remote,
)

FILE = Path("/etc/mock/remotes.d/ec2.toml")
NAMESPACE = 'xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"'
# In the form of the API reference's example of DescribeInstances.
INSTANCE = f"""<DescribeInstancesResponse {NAMESPACE}><requestId>r</requestId><reservationSet><item>
<instancesSet><item><instanceId>i-1234567890abcdef0</instanceId><imageId>ami-bff32ccc</imageId>
<instanceState><code>48</code><name>terminated</name></instanceState>
<reason>Server.InsufficientInstanceCapacity (2026-11-22 10:00:00 GMT)</reason>
<launchTime>2026-11-22T09:59:30.000Z</launchTime><clientToken>tok-1</clientToken>
<privateIpAddress>192.168.1.88</privateIpAddress><ipAddress>54.194.252.215</ipAddress>
<groupSet><item><groupId>sg-e4076980</groupId><groupName>one</groupName></item></groupSet>
<stateReason><code>Server.InsufficientInstanceCapacity</code><message>no room</message>
</stateReason>
<networkInterfaceSet><item><ipv6AddressesSet><item><ipv6Address>2001:db8::7</ipv6Address></item>
</ipv6AddressesSet></item></networkInterfaceSet>
<tagSet><item><key>{TAG_LEASE}</key><value>abc</value></item>
<item><key>{TAG_OWNER}</key><value>me</value></item>
<item><key>Name</key><value>x</value></item></tagSet></item></instancesSet></item>
</reservationSet></DescribeInstancesResponse>"""
ERROR = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<Response><Errors><Error><Code>{}</Code>'
    "<Message>said so</Message></Error></Errors><RequestID>r</RequestID></Response>"
)


def xml(text: str) -> ET.Element:
    return ET.fromstring(text)  # noqa: S314 (our own)


def test_an_instance_is_read_whole() -> None:
    (described,) = parse_instances(xml(INSTANCE))
    instance = described.instance
    assert (instance.handle, instance.state) == ("i-1234567890abcdef0", InstanceState.ENDED)
    assert instance.reason == "Server.InsufficientInstanceCapacity: no room"
    assert instance.lacks_capacity
    assert instance.tags == {TAG_LEASE: "abc", TAG_OWNER: "me"}
    assert instance.addresses == {
        Reach.PUBLIC: "54.194.252.215",
        Reach.PRIVATE: "192.168.1.88",
        Reach.IPV6: "2001:db8::7",
    }
    assert instance.created_unix == 1795341570.0
    assert (described.token, described.groups) == ("tok-1", ("sg-e4076980",))


def test_14_a_name_is_no_address() -> None:
    text = INSTANCE.replace("54.194.252.215", "ec2-54-194-252-215.eu-west-1.compute.amazonaws.com")
    (described,) = parse_instances(xml(text))
    assert Reach.PUBLIC not in described.instance.addresses


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("i-1234567890abcdef0", "../../etc/passwd"),
        ("i-1234567890abcdef0", "i-" + "0" * 300),
        ("<name>terminated</name>", "<name>dreaming</name>"),
        ("<name>terminated</name>", ""),
    ],
)
def test_an_odd_instance_is_refused(old: str, new: str) -> None:
    with pytest.raises(OddAnswer):
        parse_instances(xml(INSTANCE.replace(old, new)))


def test_an_image_s_volumes() -> None:
    mapping = "<item><deviceName>{}</deviceName><ebs><volumeSize>8</volumeSize></ebs></item>"
    text = (
        f"<r {NAMESPACE}><imagesSet><item><architecture>arm64</architecture><rootDeviceName>"
        f"/dev/xvda</rootDeviceName><blockDeviceMapping>{mapping.format('/dev/xvda')}"
        "<item><deviceName>/dev/sdb</deviceName><virtualName>ephemeral0</virtualName></item>"
        "</blockDeviceMapping></item></imagesSet></r>"
    )
    facts = parse_image(xml(text))
    assert facts == ImageFacts("arm64", "/dev/xvda", {"/dev/xvda": "8"})
    assert parse_image(xml(f"<r {NAMESPACE}><imagesSet/></r>")) is None


MEANINGS = [
    ("RequestLimitExceeded", 503, FailureKind.THROTTLED),
    ("InternalError", 500, FailureKind.UNANSWERED),
    ("Unavailable", 503, FailureKind.UNANSWERED),
    ("InsufficientInstanceCapacity", 500, NoCapacity),
    ("MaxSpotInstanceCountExceeded", 400, NoCapacity),
    ("Unsupported", 400, NoCapacity),
    ("VcpuLimitExceeded", 400, QuotaReached),
    ("InstanceLimitExceeded", 400, QuotaReached),
    ("AuthFailure", 401, CredentialsRefused),
    ("RequestExpired", 400, CredentialsRefused),
    ("UnauthorizedOperation", 403, CredentialsRefused),
    ("InvalidInstanceID.NotFound", 400, NotThere),
    ("InvalidAMIID.NotFound", 400, NotThere),
    ("VolumeInUse", 400, InUse),
    ("InvalidParameterValue", 400, ConfigError),
    ("IdempotentParameterMismatch", 400, FailureKind.REFUSED),
]


@pytest.mark.parametrize(("code", "status", "meaning"), MEANINGS)
def test_what_an_error_means(code: str, status: int, meaning: object) -> None:
    text = parse_error(ERROR.format(code))
    assert text == f"{code}: said so"
    trouble = FailureKind.UNANSWERED if status >= 500 else FailureKind.REFUSED
    judge = make_classifier("EC2 here", lambda: "the environment", FILE)
    judged = judge(Diagnosis(trouble, text, code, status))
    if isinstance(meaning, FailureKind):
        assert judged is meaning
    else:
        assert type(judged) is meaning


@pytest.mark.parametrize("body", ["", "<html>", "<Response/>", "{}", ERROR.format("")])
def test_what_is_no_error_of_the_api_s(body: str) -> None:
    assert parse_error(body) == ""


LAUNCH = Launch("mock-cloud-1", "1-0-0", Secret(b"#cloud-config\n"), {TAG_LEASE: "1"})
IMAGE = ImageFacts("x86_64", "/dev/xvda", {"/dev/xvda": "8", "/dev/xvdb": "20"})
PLAIN = Offer("ami-1", "c7i.large", "eu-west-1a")


def test_a_launch_is_tagged_at_creation_and_leaves_nothing() -> None:
    settings = Ec2Settings("eu-west-1", security_groups=("sg-1",), volume_gib=50)
    found = launch_parameters(LAUNCH, replace(PLAIN, spot=True), IMAGE, settings)
    assert [value for name, value in found.items() if name.endswith("ResourceType")] == [
        "instance",
        "volume",
        "network-interface",
        "spot-instances-request",
    ]
    deletions = [name for name in found if name.endswith("Ebs.DeleteOnTermination")]
    assert len(deletions) == 2 and all(found[name] == "true" for name in deletions)
    assert found["BlockDeviceMapping.1.Ebs.VolumeSize"] == "50"
    assert found["BlockDeviceMapping.2.Ebs.VolumeSize"] == "20"
    assert found["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert found["MetadataOptions.HttpTokens"] == "required"
    assert found["MetadataOptions.HttpPutResponseHopLimit"] == "1"
    assert found["SecurityGroupId.1"] == "sg-1"
    assert found["Placement.AvailabilityZone"] == "eu-west-1a"
    assert found["InstanceMarketOptions.MarketType"] == "spot"
    assert "KeyName" not in found
    assert found == launch_parameters(LAUNCH, replace(PLAIN, spot=True), IMAGE, settings)


@pytest.mark.parametrize(
    ("reach", "public", "ipv6"),
    [(Reach.PUBLIC, "true", None), (Reach.PRIVATE, "false", None), (Reach.IPV6, "false", "1")],
)
def test_a_subnet_s_interface_has_the_address_that_is_reached(
    reach: Reach, public: str, ipv6: str | None
) -> None:
    settings = Ec2Settings("eu-west-1", security_groups=("sg-1",), reach=reach)
    found = launch_parameters(LAUNCH, replace(PLAIN, subnet="subnet-1"), IMAGE, settings)
    assert found["NetworkInterface.1.SubnetId"] == "subnet-1"
    assert found["NetworkInterface.1.SecurityGroupId.1"] == "sg-1"
    assert found["NetworkInterface.1.AssociatePublicIpAddress"] == public
    assert found.get("NetworkInterface.1.Ipv6AddressCount") == ipv6
    assert "SecurityGroupId.1" not in found


def test_a_security_group_by_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="'default' is a name"):
        launch_parameters(LAUNCH, PLAIN, IMAGE, Ec2Settings("r", security_groups=("default",)))


def make_api(**settings: object) -> Ec2Api:
    ec2 = replace(Ec2Settings("eu-west-1"), **settings)  # type: ignore[arg-type]
    node = NodeSettings(("ami-1", "ami-2"), ("big", "small"))
    attest = AttestSettings(Path("m"), (), ())
    remote = Remote("r", "ec2", ("x86_64",), attest, cloud=ec2, nodes={"x86_64": node}, source=FILE)
    return Ec2Api(ec2, remote)


def test_offers_go_from_spot_to_demand_and_a_size_through_all_zones_first() -> None:
    offers = make_api(market=Market.SPOT_FIRST, zones=("a", "b")).offers("x86_64")
    assert [(one.spot, one.size, one.image, one.zone) for one in offers[:5]] == [
        (True, "big", "ami-1", "a"),
        (True, "big", "ami-1", "b"),
        (True, "big", "ami-2", "a"),
        (True, "big", "ami-2", "b"),
        (True, "small", "ami-1", "a"),
    ]
    assert [one.spot for one in offers] == [True] * 8 + [False] * 8


def test_subnets_go_with_their_zones() -> None:
    api = make_api(zones=("a", "b"), subnets=("s-a", "s-b"))
    places = {(one.zone, one.subnet) for one in api.offers("x86_64")}
    assert places == {("a", "s-a"), ("b", "s-b")}
    assert {one.subnet for one in make_api(zones=("a", "b"), subnets=("s",)).offers("x86_64")} == {
        "s"
    }
    with pytest.raises(ConfigError, match="3 zones and 2 subnets"):
        make_api(zones=("a", "b", "c"), subnets=("s", "t")).offers("x86_64")
    with pytest.raises(ConfigError, match=r"no table \[node.s390x\]"):
        api.offers("s390x")


def test_a_price_is_the_table_s_or_unknown() -> None:
    api = make_api()
    assert 0.05 < (api.price(Offer("ami", "c7i.large")) or 0) < 1.0
    assert api.price(Offer("ami", "c99.huge")) is None
    assert make_api(region="eu-central-9").price(Offer("ami", "c7i.large")) is None
    assert make_api(endpoint="https://cloud.example.org").price(Offer("ami", "c7i.large")) is None


def test_a_region_that_is_not_there_is_named_with_near_ones() -> None:
    api = make_api(region="eu-wset-1", access_key_id="AKIA", secret_access_key=Secret(b"s"))
    with pytest.raises(ConfigError, match="'eu-wset-1'") as caught:
        api.find("i-1")
    assert "eu-west-1" in (caught.value.hint or "")


RULES = f"""<r {NAMESPACE}><securityGroupInfo><item><ipPermissions>
<item><ipProtocol>tcp</ipProtocol><fromPort>20</fromPort><toPort>22</toPort><ipRanges><item>
<cidrIp>203.0.113.7/32</cidrIp></item></ipRanges></item>
<item><ipProtocol>tcp</ipProtocol><fromPort>443</fromPort><toPort>443</toPort><ipRanges><item>
<cidrIp>0.0.0.0/0</cidrIp></item></ipRanges></item>
</ipPermissions></item></securityGroupInfo></r>"""


def test_17_the_groups_say_why_nobody_answers() -> None:
    sources = list(ssh_sources(items_at(xml(RULES), "securityGroupInfo")))
    assert sources == ["203.0.113.7/32"]
    changed = explain_rules(["sg-1"], sources, "8.8.8.8")
    assert "sg-1" in changed and "not to this machine's address 8.8.8.8" in changed
    behind_nat = explain_rules(["sg-1"], sources, "192.168.1.2")
    assert behind_nat.endswith("203.0.113.7/32 only: has this machine's public address changed?")
    assert explain_rules(["sg-1"], [], "8.8.8.8") == (
        "no rule of its security groups (sg-1) opens port 22"
    )
    for open_to, own in (
        (["0.0.0.0/0"], "8.8.8.8"),
        (["8.8.8.0/24"], "8.8.8.8"),
        (["10.0.0.0/8"], "192.168.1.2"),
        (["sg-2"], "8.8.8.8"),
        (["::/0"], ""),
    ):
        assert explain_rules(["sg-1"], open_to, own) == "", (open_to, own)
