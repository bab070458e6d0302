# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures of the tests of local nodes; named in their `pytest_plugins`."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from mock_cloud.cloud.listing import release
from tests.component.cloud_nodes import Site, eventually, host_traces, supervisors
from tests.lab.layout import default_lab


@pytest.fixture(scope="session")
def image() -> Path:
    """The lab's node tree."""
    if os.geteuid() != 0:
        pytest.skip("needs root for local nodes")
    tree = default_lab().tree
    if not tree.is_dir():
        pytest.skip("needs the lab's node tree: make lab")
    if shutil.which("ssh") is None:
        pytest.skip("needs OpenSSH's client")
    return tree


@pytest.fixture
def site(tmp_path: Path, image: Path) -> Iterator[Site]:
    """A state directory of its own; afterwards nothing of its nodes may be left."""
    site = Site(tmp_path / "state", image)
    yield site
    try:
        assert all(
            item.problem is None for item in release(site.state_dir, None, site.load, force=True)
        )
        eventually(lambda: supervisors(site.state_dir) == [])
        assert site.nodes() == []
        eventually(lambda: host_traces(site.state_dir) == [])
    finally:
        for pid in supervisors(site.state_dir):
            os.kill(pid, signal.SIGKILL)
