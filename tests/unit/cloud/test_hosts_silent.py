# SPDX-License-Identifier: GPL-2.0-or-later
"""A lent machine that does not answer: nobody knows whether the lease on it goes on."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from mock_cloud.cloud.hosts.handle import Handle, HostPlace
from mock_cloud.cloud.hosts.provider import HostsProvider
from mock_cloud.cloud.provider import HostSilent
from mock_cloud.model import NodeAddress, UserKeys
from mock_cloud.sshkeys import make_key_pair


def test_it_is_not_said_to_be_gone(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    key = tmp_path / "key"
    key.write_bytes(make_key_pair().private.reveal())
    keys = UserKeys((str(key),), whole_agent=False)
    address = NodeAddress("127.0.0.1", port, "root", make_key_pair().public, user_keys=keys)
    handle = str(Handle((HostPlace("alpha", address),), time.time() + 60))
    provider = HostsProvider(tmp_path, [])
    with pytest.raises(HostSilent, match="refused"):
        provider.is_running("aa", handle)
    assert not provider.is_running("aa", str(Handle((), time.time() + 60)))
