# SPDX-License-Identifier: GPL-2.0-or-later
"""This user's toolkits: which one runs on a node, and where it is kept."""

from __future__ import annotations

from pathlib import Path

from mock_cloud.model import Toolkit
from mock_cloud.session.console import Console
from mock_cloud.session.state import cache_dir
from mock_cloud.settings import Remote
from mock_cloud.toolkit.machines import own_arch
from mock_cloud.toolkit.pack import toolkit_for


def toolkits_dir() -> Path:
    """The user's cache of packed toolkits. ConfigError."""
    return cache_dir() / "toolkits"


def find_toolkit(remote: Remote, arch: str, console: Console) -> Toolkit:
    """The toolkit for nodes of `remote` with this architecture, packed now if need be.

    That may mean to fetch packages: it is asked for before a node is, so that one which cannot
    be had costs nothing. Raises ConfigError, InputError, toolkit.packages.PackagesRefused and
    PackagesUnavailable.
    """
    if arch != own_arch():
        console.phase(f"remote {remote.name}: the toolkit for {arch}")
    toolkit = toolkit_for(toolkits_dir(), arch, remote.toolkit)
    console.done()
    return toolkit
