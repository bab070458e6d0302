# SPDX-License-Identifier: GPL-2.0-or-later
"""A client of the lab's clouds: the product's user-data, and OpenSSH with a pinned key."""

from __future__ import annotations

import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from mock_cloud.cloud.apis.userdata import make_user_data
from mock_cloud.cloud.provider import Bootstrap
from mock_cloud.model import KeyPair, NodeAddress
from mock_cloud.sshkeys import make_key_pair
from tests.lab.clouds.ec2 import ADMINISTRATOR, REGION, SECRET_KEY, Ec2Cloud


@dataclass(frozen=True)
class Client:
    """Keys for one node, its user-data, and connections to it."""

    place: Path
    hostname: str = "node-1"
    host_key: KeyPair = field(default_factory=make_key_pair)
    client_key: KeyPair = field(default_factory=make_key_pair)

    @property
    def bootstrap(self) -> Bootstrap:
        return Bootstrap(self.host_key, self.client_key.public, self.hostname)

    def user_data(self, minutes: int = 60) -> str:
        """As the product sends it."""
        now = time.time()
        made = make_user_data(self.bootstrap, expires_unix=now + 60 * minutes, now_unix=now)
        return made.reveal().decode()

    def node_address(self, host: str) -> NodeAddress:
        return NodeAddress(host, 22, "root", self.host_key.public)

    def ssh(self, address: str, command: str) -> str:
        """What `command` prints on the node; its host key is the one in the user-data."""
        known, key = self.place / "known_hosts", self.place / "key"
        known.write_text(f"{address} {self.host_key.public}\n")
        if not key.exists():
            key.write_bytes(self.client_key.private.reveal())
            key.chmod(0o600)
        options = ["-F", "none", "-i", str(key), "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"]
        options += ["-o", "StrictHostKeyChecking=yes", "-o", f"UserKnownHostsFile={known}"]
        argv = ["ssh", *options, "-o", "ConnectTimeout=5", f"root@{address}", command]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=600, check=False)
        return done.stdout + done.stderr


def greets(address: str) -> bool:
    """Whether an sshd answers at `address`."""
    try:
        with socket.create_connection((address, 22), timeout=1) as connection:
            return connection.recv(8).startswith(b"SSH-2.0-")
    except OSError:
        return False


def connect(cloud: Ec2Cloud, key: str = ADMINISTRATOR, **config: Any) -> Any:
    """boto3's client, which speaks EC2 strictly; it shall not try again by itself."""
    return boto3.client(
        "ec2",
        REGION,
        endpoint_url=cloud.url,
        aws_access_key_id=key,
        aws_secret_access_key=SECRET_KEY,
        config=Config(retries={"total_max_attempts": 1}, **config),
    )


def run(client: Any, cloud: Ec2Cloud, **asked: Any) -> str:
    answer = client.run_instances(
        ImageId=cloud.image_id, InstanceType="t3.small", MinCount=1, MaxCount=1, **asked
    )
    return str(answer["Instances"][0]["InstanceId"])
