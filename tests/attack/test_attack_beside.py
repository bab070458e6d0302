# SPDX-License-Identifier: GPL-2.0-or-later
"""What a command that is let in beside another one opens to others, and to the node."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from mock_cloud.errors import HostKeyMismatch, RemoteCommandError
from mock_cloud.model import Toolkit
from mock_cloud.remote.connect import connect
from mock_cloud.remote.trusted import trust_held
from mock_cloud.sshkeys import make_key_pair
from tests.component.cloud_nodes import Site, holding
from tests.lab.layout import repository_root

pytest_plugins = ["tests.component.cloud_fixtures"]
pytestmark = pytest.mark.lab
_NOBODY = 65534
_JOIN = """\
import os, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from mock_cloud.cloud.journal import Journal
from mock_cloud.errors import MockCloudError
os.chdir(sys.argv[1])
os.setuid(int(sys.argv[3]))
state = Path(".")  # whatever stands above it is no part of it
for look in (lambda: Journal(state).leases(), lambda: os.listdir(state), *(
    lambda name=name: open(state / name).read() for name in sys.argv[4:]
)):
    try:
        print("taken:", look())
    except (MockCloudError, OSError):
        pass
"""


@pytest.mark.attack(
    "another user of the controller's machine",
    "joins a command that lets others in, as that command's own user would",
    "neither the journal nor the lease's key is theirs to read",
)
def test_another_user_cannot_join(site: Site, tmp_path: Path) -> None:
    holder = holding(site, tmp_path / "holder")
    names = [f"keys/{path.name}" for path in (site.state_dir / "keys").iterdir()]
    assert names

    def look(uid: int) -> int:
        argv = [sys.executable, "-c", _JOIN, site.state_dir, repository_root(), str(uid)]
        done = subprocess.run([*argv, *names], capture_output=True, check=True)
        return done.stdout.count(b"taken:")

    assert look(os.geteuid()) == 3  # leases, names, a key
    assert look(_NOBODY) == 0
    holder.end("")


@pytest.mark.attack(
    "network, or a node, before a command joins another",
    "answers in place of the node that was attested",
    "another host key is sent nothing, and no verdict is passed on to it",
)
def test_a_verdict_is_for_the_host_key_of_its_lease(site: Site, packed_toolkit: Toolkit) -> None:
    with (
        site.acquire() as leased,
        closing(connect(leased.address, leased.client_key, deadline_s=60)) as node,
    ):
        node.start_agent(packed_toolkit)
        with pytest.raises(HostKeyMismatch):
            trust_held(node, make_key_pair().public, "ab" * 32)
        with pytest.raises(HostKeyMismatch):
            trust_held(node, leased.address.host_key, "")  # never attested
        with pytest.raises(RemoteCommandError, match="before trust"):
            node._running().ask("job_cancel", within_s=30, job="job-1")
