# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock --remote ec2` on the lab's EC2: real nodes, set up by cloud-init from our user-data."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mock_cloud.cloud.apis.waiting import NodeSilent
from mock_cloud.cloud.journal import Journal
from tests.fault_table import saw
from tests.integration.conftest import User
from tests.integration.ec2_remote import Account
from tests.lab.clouds.ec2 import ACCESS_KEY, REGION, SECRET_KEY, Ec2Cloud
from tests.lab.clouds.faults import Exchange, Fault, Response
from tests.lab.layout import Lab

pytestmark = pytest.mark.lab

REMOTE = """\
[remote]
provider = "ec2"

[ec2]
region = "{region}"
endpoint = "{endpoint}"

[node.{arch}]
images = ["{image}"]
sizes = ["t3.small"]
price_per_hour = 0.02
manifest = "{manifest}"

[attest]
manifest = "{other_manifest}"
manifest_keys = ["{manifest_key}"]
package_keys = ["{package_key}"]
unsafe_containers = true
"""


@pytest.fixture
def user(ec2: Ec2Cloud, lab: Lab, tmp_path: Path, cache: Path) -> Iterator[User]:
    """Somebody with an account, whose keys are in ~/.aws; the manifest is [node.ARCH]'s."""
    config = ec2.write_config(tmp_path / "etc")
    text = REMOTE.format(
        region=REGION,
        endpoint=ec2.url,
        arch=config.arch,
        image=ec2.image_id,
        manifest=ec2.manifest,
        other_manifest=lab.root / "node/manifest.dsse.json",
        manifest_key=lab.manifest_key,
        package_key=lab.package_key,
    )
    (config.path / "remotes.d/ec2.toml").write_text(text)
    home = tmp_path / "home/.aws"
    home.mkdir(parents=True)
    (home / "credentials").write_text(
        f"[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
    )
    options = ("--configdir", str(config.path), "-r", config.chroot(), "--remote", "ec2")
    yield User(tmp_path, config, cache, options)


_NO_DNS = """\
import socket
_real = socket.getaddrinfo
def getaddrinfo(host, port, family=0, type=0, proto=0, flags=0):
    return _real(host, port, family, type, proto, flags | socket.AI_NUMERICHOST)
socket.getaddrinfo = getaddrinfo
"""


@pytest.fixture
def nameless(user: User, tmp_path: Path) -> User:
    """The same user on a machine that resolves no names."""
    place = tmp_path / "nameless"
    place.mkdir()
    (place / "sitecustomize.py").write_text(_NO_DNS)
    nameless = replace(user, extra={**user.extra, "PYTHONPATH": str(place)})
    looks_up = "import socket; socket.getaddrinfo('localhost', 1)"
    assert "gaierror" in nameless.run([sys.executable, "-c", looks_up]).stderr
    return nameless


@pytest.mark.fault(14)
def test_a_cold_build_then_a_warm_one_and_nothing_is_left(
    ec2: Ec2Cloud, nameless: User, plain_srpm: Path, tmp_path: Path
) -> None:
    user = nameless
    for name in ("cold", "warm"):
        ended = user.mock("--resultdir", tmp_path / name, plain_srpm).expect()
        assert list((tmp_path / name).glob("*.src.rpm")), ended.stderr
        # The cold one was measured under a host key that it had no more when it built.
        user.cloud("verify", tmp_path / name).expect()
        assert ec2.calls.count("RunInstances") == 1
    assert SECRET_KEY not in ended.stdout + ended.stderr
    user.cloud("release", "--all", "--configdir", user.config.path).expect()
    assert user.nodes() == []
    assert ec2.listing().is_empty
    assert ec2.nodes() == ()


def host_key(user: User) -> str:
    """Of the one node that the journal knows."""
    (lease,) = Journal(user.place / "state/mock-cloud").leases()
    assert lease.address is not None and lease.next_host_key is None
    return str(lease.address.host_key)


@pytest.mark.slow
def test_a_host_key_goes_with_the_foreign_code_that_it_was_beside(
    ec2: Ec2Cloud, user: User
) -> None:
    user.mock("--init").expect()
    first = host_key(user)
    user.mock("--chroot", "true").expect()
    second = host_key(user)
    user.mock("--copyout", "/etc/passwd", user.place / "passwd").expect()
    assert first != second == host_key(user)
    assert ec2.calls.count("RunInstances") == 1


@pytest.mark.slow
def test_a_host_key_waits_for_the_last_of_the_commands_in_a_chroot(
    ec2: Ec2Cloud, user: User
) -> None:
    user.mock("--init").expect()
    first = host_key(user)
    pipe = subprocess.PIPE
    shell = user.start("-q", "--shell", "echo begun; cat", stdin=pipe, stdout=pipe)
    assert shell.stdout is not None and shell.stdout.readline() == b"begun\n"
    assert user.mock("-q", "--chroot", "echo beside").expect().stdout == "beside\n"
    assert host_key(user) == first
    shell.communicate(timeout=900)
    assert shell.returncode == 0
    second = host_key(user)
    user.mock("--copyout", "/etc/passwd", user.place / "passwd").expect()
    assert first != second == host_key(user)
    assert ec2.calls.count("RunInstances") == 1


@pytest.mark.fault(12)
def test_12_a_node_with_another_host_key_is_sent_nothing_and_destroyed(
    ec2: Ec2Cloud, user: User, plain_srpm: Path
) -> None:
    ec2.faults.add(with_user_data(ec2, {}), on="RunInstances")
    ended = user.mock(plain_srpm).expect(77)
    assert "expected host key" in ended.stderr
    assert ec2.listing().is_empty
    assert ec2.nodes() == ()


BROKEN = {
    "bootcmd": ["exit 3"],
    "ssh_keys": {"ed25519_private": "no key\n"},
}


def with_user_data(cloud: Ec2Cloud, config: dict[str, object]) -> Fault:
    """A fault for RunInstances: the node reads other user-data than was sent."""
    text = f"#cloud-config\n{json.dumps(config)}\n".encode()

    def replace_it(exchange: Exchange) -> Response:
        parameters = {**exchange.request.parameters, "UserData": base64.b64encode(text).decode()}
        return cloud.act(replace(exchange.request, parameters=parameters))

    return replace_it


def _patience_s(cloud: Ec2Cloud) -> float:
    """How long to wait for a node that never greets: several boots at the present load."""
    account, lease = Account(cloud), "ba9876543210"
    began_s = time.monotonic()
    node, _ = account.create(lease)
    took_s = time.monotonic() - began_s
    account.provider().destroy(lease, node.handle)
    cloud.calls.clear()
    return 20.0 + 5 * took_s


@pytest.mark.slow
@pytest.mark.fault(10)
def test_10_a_silent_node_is_replaced_once(ec2: Ec2Cloud) -> None:
    account = Account(ec2, settings={"boot_timeout_s": _patience_s(ec2)})
    ec2.faults.add(with_user_data(ec2, BROKEN), on="RunInstances")
    node, _ = account.create()
    assert ec2.listing().instances == (node.handle,)
    assert len(account.handles) == 2 and account.handles[1] == node.handle
    assert [line for line in account.told if line.endswith("taking another node")]
    account.provider().destroy("0123456789ab", node.handle)
    assert ec2.listing().is_empty


@pytest.mark.slow
@pytest.mark.fault(10, 11, 17)
def test_10_11_17_two_silent_nodes_are_explained_and_gone(ec2: Ec2Cloud) -> None:
    patience_s = _patience_s(ec2)
    group = ec2.client.create_security_group(GroupName="ssh", Description="for one host")["GroupId"]
    ec2.client.authorize_security_group_ingress(
        GroupId=group, IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="203.0.113.7/32"
    )
    account = Account(ec2, settings={"boot_timeout_s": patience_s, "security_groups": (group,)})
    ec2.faults.add(with_user_data(ec2, BROKEN), on="RunInstances", times=None)
    with pytest.raises(NodeSilent) as caught:
        account.create()
    assert "Connection refused" in caught.value.message
    assert "Failed to run bootcmd" in caught.value.message
    assert "open port 22 to 203.0.113.7/32 only" in (caught.value.hint or "")
    assert ec2.calls.count("RunInstances") == len(account.handles) == 2
    assert ec2.listing().instances == ()
    saw(f"{caught.value.exit_code}: {caught.value.message}")
