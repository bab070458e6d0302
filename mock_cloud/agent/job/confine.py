# SPDX-License-Identifier: GPL-2.0-or-later
"""Keeps a job from changing the node: its root is read-only to everything the job runs.

dnf, its plugins and package scripts run with root's rights. What they wrote outside the chroot
would be foreign to the next measurement at best, and a way to stay on the node at worst.
"""

from __future__ import annotations

import os
import stat
from typing import Final

from mock_cloud.wire import syscalls

_WRITABLE: Final = ("/var/lib/mock", "/var/cache/mock")
_SCRATCH: Final = ("/tmp", "/var/tmp", "/run", "/var/log", "/var/cache/dnf", "/var/lib/dnf")  # noqa: S108

_RESOLVER_MAX_BYTES: Final = 1 << 16


def confine(workspace: str) -> None:
    """In the job's own mount namespace: only our directories are writable, scratch is private.

    What stands in `_SCRATCH` starts empty and goes with the namespace, but for the way to name
    servers. OSError.
    """
    resolver = _read_resolver()
    for path in (workspace, *_WRITABLE):
        if os.path.isdir(path):
            syscalls.bind(path, path, recursive=True)
    for path in _SCRATCH:
        if os.path.isdir(path) and not os.path.islink(path) and not _holds(path, workspace):
            mode = stat.S_IMODE(os.stat(path).st_mode)
            flags = syscalls.MS_NOSUID | syscalls.MS_NODEV
            syscalls.mount("scratch", path, "tmpfs", flags, f"mode={mode:o}")
    if resolver is not None:
        path, data = resolver
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        with open(path, "wb") as stream:
            stream.write(data)
    syscalls.mount("none", "/", None, syscalls.MS_BIND | syscalls.MS_REMOUNT | syscalls.MS_RDONLY)


def _read_resolver() -> tuple[str, bytes] | None:
    """(path, content) of what /etc/resolv.conf is a link to, if that is about to be covered.

    systemd-resolved and NetworkManager keep it below /run.
    """
    path = os.path.realpath("/etc/resolv.conf")
    if not any(_holds(place, path) for place in _SCRATCH):
        return None
    try:
        with open(path, "rb") as stream:
            return path, stream.read(_RESOLVER_MAX_BYTES)
    except FileNotFoundError:
        return None


def _holds(directory: str, path: str) -> bool:
    return path == directory or path.startswith(directory + "/")
