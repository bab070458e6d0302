# SPDX-License-Identifier: GPL-2.0-or-later
"""Takes out of a node's system what is this node's own, so that a copy of it boots as new.

What `cloud-init clean --logs --machine-id --configs all` removes (cloudinit/cmd/clean.py), what
`virt-sysprep` and our own stay left besides. Nothing is asked of the node's own programs.
"""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import stat
from collections.abc import Iterator
from typing import Final

from mock_cloud.wire.text_places import MACHINE_ID

FILES: Final = (
    "/etc/ssh/ssh_host_*",
    "/etc/ssh/sshd_config.d/50-cloud-init.conf",
    "/etc/sudoers.d/90-cloud-init-users",
    "/etc/netplan/50-cloud-init.yaml",
    "/etc/network/interfaces.d/50-cloud-init.cfg",
    "/etc/NetworkManager/conf.d/30-cloud-init-ip6-addr-gen-mode.conf",
    "/etc/NetworkManager/conf.d/99-cloud-init.conf",
    "/etc/NetworkManager/system-connections/cloud-init-*.nmconnection",
    "/etc/systemd/network/10-cloud-init-*.network",
    "/root/.ssh/authorized_keys",
    "/home/*/.ssh/authorized_keys",
    "/root/.*_history",
    "/home/*/.*_history",
    "/var/lib/dbus/machine-id",
    "/var/lib/systemd/credential.secret",
    "/var/lib/systemd/random-seed",
    "/var/lib/dhclient/*.lease*",
    "/var/lib/NetworkManager/*.lease",
    "/var/lib/NetworkManager/secret_key",
)
"""Patterns of single files. A link is removed itself, never what it leads to."""

CONTENTS: Final = (
    "/tmp",  # noqa: S108
    "/var/tmp",  # noqa: S108
    "/var/cache/dnf",
    "/var/cache/libdnf5",
    "/var/lib/cloud",
    "/var/lib/systemd/timers",
    "/var/log/journal",
    "/run/log/journal",
)
"""Directories whose contents go; they themselves stay."""

LOGS: Final = "/var/log"
KEPT: Final = ("/var/lib/cloud/seed",)
"""cloud-init keeps it too: an image may carry its data source there."""


def cleanse_node(root: str = "/") -> list[str]:
    """Remove all of it below `root`; the paths removed, sorted, without `root`. OSError."""
    base = root.rstrip("/")
    removed = [_remove(path) for pattern in FILES for path in glob.iglob(base + pattern)]
    for directory in CONTENTS:
        removed += [_remove(path) for path in _entries(base, directory)]
    removed += [_remove(path) for path in _logs(base + LOGS)]
    if _empty_machine_id(base + MACHINE_ID):
        removed.append(base + MACHINE_ID)
    return sorted(path[len(base) :] for path in removed)


def seal_node(workspace: str, layers: str = "layers") -> None:
    """Remove our own work, but for chroot layers, and bring everything to the disk.

    After this the agent can do nothing more than answer: its own files are gone. OSError.
    """
    for name in os.listdir(workspace):
        if name != layers:
            _remove(os.path.join(workspace, name))
    for path in glob.iglob(os.path.join(glob.escape(workspace), layers, "*.lock")):
        os.unlink(path)
    os.sync()


def _entries(base: str, directory: str) -> Iterator[str]:
    """What lies in the directory. Links to directories and mounted file systems are left."""
    path = base + directory
    if os.path.islink(path) or not os.path.isdir(path):
        return
    for name in os.listdir(path):
        inside = os.path.join(path, name)
        if f"{directory}/{name}" not in KEPT and not os.path.ismount(inside):
            yield inside


def _logs(path: str) -> Iterator[str]:
    """Regular files of the log directory, at any depth; its directories belong to packages."""
    for where, _, names in os.walk(path):
        for name in names:
            file = os.path.join(where, name)
            if stat.S_ISREG(os.lstat(file).st_mode):
                yield file


def _remove(path: str) -> str:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    return path


def _empty_machine_id(path: str) -> bool:
    """Systemd fills an empty file at boot, and takes a missing one for a fault (machine-id(5))."""
    if not os.path.isfile(path) or os.path.islink(path) or not os.path.getsize(path):
        return False
    with open(path, "w"):
        return True
