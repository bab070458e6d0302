# SPDX-License-Identifier: GPL-2.0-or-later
"""Each fault of the lab's EC2 is what a client then sees, and calls are counted."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    ReadTimeoutError,
)
from botocore.parsers import ResponseParserError

from tests.integration.cloud_support import Client, connect, greets, run
from tests.lab.clouds import ec2_xml, faults
from tests.lab.clouds.ec2 import Ec2Cloud
from tests.lab.layout import Lab, repository_root
from tests.waiting import wait_for

pytestmark = pytest.mark.lab


def instance(client: Any, name: str) -> Any:
    found = client.describe_instances(InstanceIds=[name])
    return found["Reservations"][0]["Instances"][0]


ERRORS = [
    (ec2_xml.throttled(), "RequestLimitExceeded", 503),
    (ec2_xml.no_capacity(), "InsufficientInstanceCapacity", 500),
    (ec2_xml.over_quota(), "VcpuLimitExceeded", 400),
    (ec2_xml.not_found(), "InvalidInstanceID.NotFound", 400),
    (ec2_xml.expired(), "RequestExpired", 400),
]


@pytest.mark.parametrize(("fault", "code", "status"), ERRORS)
def test_an_error_is_told_once(ec2: Ec2Cloud, fault: faults.Fault, code: str, status: int) -> None:
    client = connect(ec2)
    ec2.faults.add(fault, "DescribeInstances")
    with pytest.raises(ClientError) as caught:
        client.describe_instances()
    assert caught.value.response["Error"]["Code"] == code
    client.describe_instances()
    assert [call.status for call in ec2.calls] == [status, 200]


def test_answers_that_are_none(ec2: Ec2Cloud) -> None:
    client = connect(ec2, read_timeout=1)
    for fault, error in (
        (faults.html_502(), ResponseParserError),
        (faults.reset, ConnectionClosedError),
        (faults.hang, ReadTimeoutError),
        (faults.flood(1 << 20), ResponseParserError),
    ):
        armed = ec2.faults.add(fault, "DescribeInstances")
        with pytest.raises((error, ClientError)):
            client.describe_instances()
        assert armed.hits == 1
        armed.lift()
    armed = ec2.faults.add(faults.too_many_requests(7))
    with pytest.raises((ClientError, ResponseParserError)):
        client.describe_instances()
    ec2.faults.add(faults.delay(0.3))
    started_s = time.monotonic()
    client.describe_instances()
    assert time.monotonic() - started_s >= 0.3


def test_a_lost_answer_and_its_token(ec2: Ec2Cloud) -> None:
    client = connect(ec2, read_timeout=1)
    armed = ec2.faults.add(faults.swallow, "RunInstances")
    with pytest.raises(ReadTimeoutError):
        run(client, ec2, ClientToken="one")
    armed.lift()
    (made,) = ec2.listing().instances
    assert run(client, ec2, ClientToken="one") == made
    with pytest.raises(ClientError, match="IdempotentParameterMismatch"):
        run(client, ec2, ClientToken="one", KeyName="other")
    ec2.faults.add(faults.reset_after, "RunInstances")
    with pytest.raises(ConnectionClosedError):
        run(client, ec2, ClientToken="two")
    assert len(ec2.listing().instances) == 2
    assert ec2.calls.count("RunInstances") == 4


def test_capacity_for_some_only(ec2: Ec2Cloud) -> None:
    client = connect(ec2)
    zone = {"Placement.AvailabilityZone": "us-east-1a"}
    ec2.faults.add(ec2_xml.no_capacity(), "RunInstances", times=None, when=zone)
    spot = {"InstanceMarketOptions.MarketType": "spot"}
    ec2.faults.add(ec2_xml.no_capacity(), "RunInstances", times=None, when=spot)
    for asked in (
        {"Placement": {"AvailabilityZone": "us-east-1a"}},
        {"InstanceMarketOptions": {"MarketType": "spot"}},
    ):
        with pytest.raises(ClientError, match="InsufficientInstanceCapacity"):
            run(client, ec2, **asked)
    run(client, ec2, Placement={"AvailabilityZone": "us-east-1b"})


def test_a_cloud_that_lags_behind(ec2: Ec2Cloud) -> None:
    client = connect(ec2)
    made = run(client, ec2)
    ec2.faults.add(ec2_xml.empty_list(), "DescribeInstances", times=None, for_s=0.3)
    assert client.describe_instances()["Reservations"] == []
    wait_for(lambda: client.describe_instances()["Reservations"])
    assert instance(client, made)["State"]["Name"] in ("pending", "running")


def test_pending_takes_its_time_and_may_end(ec2: Ec2Cloud) -> None:
    client = connect(ec2)
    ec2.pending_s = 3600.0
    ec2.faults.add(ec2.dying("Server.InternalError", "Server.InternalError: lost"), "RunInstances")
    doomed, lasting = run(client, ec2), run(client, ec2)
    assert instance(client, doomed)["State"]["Name"] == "terminated"
    assert instance(client, doomed)["StateReason"]["Code"] == "Server.InternalError"
    wait_for(lambda: ec2.node(lasting).state.name == "RUNNING")
    assert instance(client, lasting)["State"]["Name"] == "pending"
    ec2.pending_s = 0.0
    wait_for(lambda: instance(client, lasting)["State"]["Name"] == "running")


def test_strangers_are_refused(ec2: Ec2Cloud) -> None:
    with pytest.raises(ClientError, match="AuthFailure"):
        connect(ec2, key="AKIASOMEBODYELSE0000").describe_instances()


@pytest.mark.slow
def test_shaking_is_repeatable(ec2: Ec2Cloud) -> None:
    client = connect(ec2)
    seen = []
    for _ in range(2):
        ec2.calls.clear()
        ec2.faults.shake(7, 0.3, [ec2_xml.throttled(), ec2_xml.expired()])
        for _ in range(20):
            try:
                client.describe_instances()
            except ClientError:
                continue
        seen.append([call.status for call in ec2.calls])
    assert seen[0] == seen[1]
    assert {200, 400, 503} == set(seen[0])


@pytest.mark.slow
def test_images_and_other_belongings(ec2: Ec2Cloud, tmp_path: Path) -> None:
    client, user = connect(ec2), Client(tmp_path)
    made = run(client, ec2, UserData=user.user_data())
    wait_for(lambda: greets(ec2.node(made).address))
    user.ssh(ec2.node(made).address, "echo kept > /srv/note; sync")
    image = client.create_image(InstanceId=made, Name="baked")["ImageId"]
    permission = {"Add": [{"UserId": "111122223333"}]}
    client.modify_image_attribute(ImageId=image, LaunchPermission=permission)
    client.create_key_pair(KeyName="key")
    client.allocate_address()
    listing = ec2.listing()
    assert (listing.instances, listing.images, listing.key_pairs) == ((made,), (image,), ("key",))
    assert len(listing.volumes) == len(listing.addresses) == 1
    client.terminate_instances(InstanceIds=[made])
    answer = client.run_instances(
        ImageId=image, MinCount=1, MaxCount=1, UserData=user.user_data(), InstanceType="t3.small"
    )
    address = ec2.node(answer["Instances"][0]["InstanceId"]).address
    wait_for(lambda: greets(address))
    assert user.ssh(address, "cat /srv/note") == "kept\n"
    ec2.reset()
    assert ec2.listing().is_empty


@pytest.mark.slow
def test_a_pulled_cable_and_a_dead_host(ec2: Ec2Cloud, tmp_path: Path) -> None:
    client, user = connect(ec2), Client(tmp_path)
    made = run(client, ec2, UserData=user.user_data())
    machine = ec2.node(made)
    wait_for(lambda: greets(machine.address))
    machine.set_link(False)
    assert not greets(machine.address)
    machine.set_link(True)
    wait_for(lambda: greets(machine.address))
    machine.crash()
    wait_for(lambda: instance(client, made)["State"]["Name"] == "terminated")
    assert instance(client, made)["StateReason"]["Code"] == "Server.InternalError"


_LAB = """
import sys
from pathlib import Path
from tests.lab.clouds.ec2 import Ec2Cloud
from tests.lab.clouds.machines import Boot
from tests.lab.clouds.metadata import NodeData
from tests.lab.layout import Lab
cloud = Ec2Cloud(Lab(Path(sys.argv[1])))
with cloud:
    machine = cloud.site.boot("i-1", Boot(cloud.disk(cloud.image_id), lambda port: NodeData(b"")))
    while not machine.init_pid:
        pass
    print(machine.init_pid, cloud.site.network.interface, machine.directory, flush=True)
    sys.stdin.read()
"""


def test_a_killed_lab_leaves_nothing(ec2: Ec2Cloud, lab: Lab) -> None:
    argv = [sys.executable, "-c", _LAB, str(lab.root)]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, cwd=repository_root()) as process:
        assert process.stdout is not None
        pid, interface, directory = process.stdout.readline().decode().split()
        assert Path("/proc", pid).exists()
        assert Path("/sys/class/net", interface).exists()
        process.send_signal(signal.SIGKILL)
        process.wait()
        for place in (Path("/proc", pid), Path("/sys/class/net", interface), Path(directory)):
            wait_for(lambda place=place: not place.exists())  # type: ignore[misc]
