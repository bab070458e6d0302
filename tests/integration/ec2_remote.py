# SPDX-License-Identifier: GPL-2.0-or-later
"""A remote on the lab's EC2, for its adapter, its provider, and the commands."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from mock_cloud.cloud.apis.adapter import TAG_EXPIRES, TAG_LEASE, TAG_REMOTE, Launch
from mock_cloud.cloud.apis.calls import Breaker
from mock_cloud.cloud.apis.ec2 import Ec2Api
from mock_cloud.cloud.apis.provider import CloudProvider
from mock_cloud.cloud.images import TAG_OWNER
from mock_cloud.cloud.provider import Bootstrap, CreatedNode, NodeOrder
from mock_cloud.model import Secret
from mock_cloud.settings import AttestSettings, Ec2Settings, NodeSettings, Remote
from mock_cloud.sshkeys import make_key_pair
from tests.integration.conftest import User
from tests.lab.clouds.ec2 import ACCESS_KEY, REGION, SECRET_KEY, Ec2Cloud
from tests.lab.clouds.faults import Exchange, Fault, Response


@dataclass
class Account:
    """What one run of a command has of the lab's EC2; `told` is what its user was told."""

    cloud: Ec2Cloud
    sizes: tuple[str, ...] = ("t3.small",)
    arch: str = "x86_64"
    settings: dict[str, object] = field(default_factory=dict)
    call_timeout_s: float = 20.0
    told: list[str] = field(default_factory=list)
    handles: list[str] = field(default_factory=list)

    def remote(self) -> Remote:
        ec2 = Ec2Settings(
            region=REGION,
            endpoint=self.cloud.url,
            access_key_id=ACCESS_KEY,
            secret_access_key=Secret(SECRET_KEY.encode()),
        )
        return Remote(
            name="lab",
            provider="ec2",
            arches=(self.arch,),
            attest=AttestSettings(Path("/nowhere"), (), ()),
            cloud=replace(ec2, **self.settings),  # type: ignore[arg-type]
            nodes={self.arch: NodeSettings((self.cloud.image_id,), self.sizes)},
            source=Path("/etc/mock/remotes.d/lab.toml"),
        )

    def api(self) -> Ec2Api:
        """An adapter as a new run has it: no API was found to be out yet."""
        remote = self.remote()
        assert isinstance(remote.cloud, Ec2Settings)
        return Ec2Api(remote.cloud, remote, breaker=Breaker(), call_timeout_s=self.call_timeout_s)

    def provider(self) -> CloudProvider:
        remote = self.remote()
        assert remote.cloud is not None
        return CloudProvider(self.api(), remote.cloud, remote, owner="somebody@lab:0")

    def create(
        self, lease_id: str = "0123456789ab", *, timeout_s: float = 900.0
    ) -> tuple[CreatedNode, Bootstrap]:
        order, bootstrap = make_order(lease_id), make_bootstrap(lease_id)
        node = self.provider().create(
            order,
            bootstrap,
            timeout_s=timeout_s,
            on_handle=self.handles.append,
            on_phase=self.told.append,
        )
        return node, bootstrap


def make_order(lease_id: str, owner: str = "somebody@lab:0") -> NodeOrder:
    return NodeOrder(lease_id, "lab", owner, "x86_64", time.time() + 3600)


def make_bootstrap(lease_id: str) -> Bootstrap:
    return Bootstrap(make_key_pair(), make_key_pair().public, f"mock-cloud-{lease_id}")


def make_launch(lease_id: str = "0123456789ab", number: int = 0) -> Launch:
    tags = {
        TAG_LEASE: lease_id,
        TAG_OWNER: "somebody@lab:0",
        TAG_REMOTE: "lab",
        TAG_EXPIRES: str(int(time.time()) + 3600),
    }
    name = f"mock-cloud-{lease_id}"
    return Launch(name, f"{lease_id}-0-{number}", Secret(b"#cloud-config\n{}\n"), tags)


def write_user(cloud: Ec2Cloud, place: Path, cache: Path, settings: str = "") -> User:
    """Somebody with a state directory below `place`; `settings` end the remote's file.

    They begin in its [ec2] table.
    """
    config = cloud.write_config(place / "etc")
    with (config.path / "remotes.d/ec2.toml").open("a") as stream:
        stream.write(settings)
    (place / "home").mkdir()
    options = ("--configdir", str(config.path), "-r", config.chroot(), "--remote", "ec2")
    return User(place, config, cache, options)


def with_changed_user_data(cloud: Ec2Cloud, changes: dict[str, object]) -> Fault:
    """A fault for RunInstances: the node reads user-data that was added to on the way."""

    def change_it(exchange: Exchange) -> Response:
        sent = base64.b64decode(exchange.request.parameters["UserData"])
        config = json.loads(sent.partition(b"\n")[2]) | changes
        text = base64.b64encode(f"#cloud-config\n{json.dumps(config)}\n".encode()).decode()
        parameters = {**exchange.request.parameters, "UserData": text}
        return cloud.act(replace(exchange.request, parameters=parameters))

    return change_it
