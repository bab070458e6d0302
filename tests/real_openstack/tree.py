# SPDX-License-Identifier: GPL-2.0-or-later
"""A Debian system with OpenStack's services in it, made once and kept: they are not installed here.

Without systemd, and without the packages of units (nova-api, neutron-server, …): the code is in
python3-nova and the like. Some 1.2 GB.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from mock_cloud.process import CommandFailed, run
from tests.lab.layout import LabError
from tests.releases.trees import find_mirror, find_obstacle, share_network

SUITE = "bookworm"
PACKAGES = (
    "python3-keystone", "python3-glance", "glance-common", "python3-placement",
    "placement-common", "python3-nova", "nova-common", "python3-neutron", "neutron-common",
    "rabbitmq-server", "mariadb-server", "uwsgi-core", "uwsgi-plugin-python3",
    "python3-openstacksdk", "curl", "procps",
)  # fmt: skip
_TIMEOUT_S = 3600.0


def find_missing() -> str | None:
    """Why there can be no tree on this machine, by the name of what it lacks; None if there can."""
    if os.geteuid() != 0:
        return "needs root"
    return find_obstacle()


def make(root: Path) -> Path:
    """The tree at `root`, made unless it is there. LabError."""
    if (root / "usr/bin/uwsgi-core").exists():
        return root
    partial = root.with_name(f".{root.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    argv = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
    argv += ['--aptopt=Acquire::Check-Valid-Until "false"', '--aptopt=Acquire::Languages "none"']
    argv += ['--aptopt=APT::Install-Recommends "false"', "--dpkgopt=force-unsafe-io"]
    try:
        run([*argv, SUITE, str(partial), f"deb {find_mirror()} {SUITE} main"], timeout_s=_TIMEOUT_S)
    except CommandFailed as error:
        raise LabError(f"no system with OpenStack: {error}") from error
    share_network(partial)
    return partial.rename(root)
