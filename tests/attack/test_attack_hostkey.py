# SPDX-License-Identifier: GPL-2.0-or-later
"""A node's host key, after code that nobody signed was root in a chroot there."""

from __future__ import annotations

import io
from contextlib import closing
from dataclasses import replace

import pytest

from mock_cloud.console import Console
from mock_cloud.errors import HostKeyMismatch
from mock_cloud.model import Toolkit
from mock_cloud.remote.connect import connect
from mock_cloud.remote.trusted import trust
from mock_cloud.steps.attest.hardening import hardened, plan_hardening
from mock_cloud.steps.lease.node import connect_leased
from tests.component.cloud_nodes import Site
from tests.component.remote_parts import make_proof

pytest_plugins = ["tests.component.cloud_fixtures"]
pytestmark = pytest.mark.lab
KEY = "/etc/ssh/ssh_host_ed25519_key"


@pytest.mark.attack(
    "root on a cloud's node, for one job", "takes its host key along", "nobody accepts that key"
)
def test_a_host_key_that_foreign_code_took_is_of_no_use(
    site: Site, packed_toolkit: Toolkit
) -> None:
    leased = site.acquire()
    stolen, old = site.ssh(leased, f"cat {KEY}"), leased.address.host_key
    hardening = plan_hardening("ec2", leased)
    assert hardening is not None
    with closing(connect(leased.address, leased.client_key, deadline_s=10)) as node:
        node.start_agent(packed_toolkit)
        channel = trust(node, make_proof(node.host_key))
        # The network and the power are this machine's own.
        hardening = replace(hardening, close_metadata=False)
        with hardened(channel, leased, hardening, Console(0, io.StringIO())) as keys:
            keys.renew()
    assert leased.address.host_key != old and leased.next_host_key is None
    assert site.ssh(leased, f"cat {KEY}") != stolen
    with pytest.raises(HostKeyMismatch):
        address = replace(leased.address, host_key=old)
        connect(address, leased.client_key, deadline_s=5)
    connect_leased(leased, site.remote()).close()
