# SPDX-License-Identifier: GPL-2.0-or-later
"""A client of the lab's clouds: user-data of cloud-init's, and OpenSSH with a pinned key."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mock_cloud.model import KeyPair
from mock_cloud.sshkeys import make_key_pair


@dataclass(frozen=True)
class Client:
    """Keys for one node, its user-data, and connections to it."""

    place: Path
    hostname: str = "node-1"
    host_key: KeyPair = field(default_factory=make_key_pair)
    client_key: KeyPair = field(default_factory=make_key_pair)

    def user_data(self, minutes: int = 60) -> str:
        settings = {
            "disable_root": False,
            "ssh_deletekeys": True,
            "ssh_keys": {
                "ed25519_private": self.host_key.private.reveal().decode(),
                "ed25519_public": f"{self.host_key.public}\n",
            },
            "users": [
                {
                    "name": "root",
                    "lock_passwd": False,
                    "ssh_authorized_keys": [str(self.client_key.public)],
                }
            ],
            "hostname": self.hostname,
            "preserve_hostname": False,
            "bootcmd": [["shutdown", "-P", f"+{minutes}"]],
            "ssh_pwauth": False,
        }
        return "#cloud-config\n" + json.dumps(settings)  # JSON is YAML

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
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        return done.stdout + done.stderr


def wait_for(condition: Callable[[], object], timeout_s: float = 20.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen in time"
        time.sleep(0.05)


def greets(address: str) -> bool:
    """Whether an sshd answers at `address`."""
    try:
        with socket.create_connection((address, 22), timeout=1) as connection:
            return connection.recv(8).startswith(b"SSH-2.0-")
    except OSError:
        return False
