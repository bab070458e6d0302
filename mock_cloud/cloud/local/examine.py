# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether this machine can have local nodes."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Final

from mock_cloud.cloud.findings import Finding, look
from mock_cloud.cloud.local.plan import check_image
from mock_cloud.errors import ConfigError
from mock_cloud.settings import LocalSettings

_NAMESPACES: Final = ("mnt", "pid", "uts", "ipc", "net")


def examine_machine(settings: LocalSettings) -> list[Finding]:
    """The image tree, root's rights, and what the kernel must have."""
    return [
        look("image", partial(_image, settings.image)),
        look("root", _root),
        look("namespaces and overlayfs", _kernel),
    ]


def _image(image: Path) -> str:
    check_image(image)
    return str(image)


def _root() -> str:
    if os.geteuid() != 0:
        raise ConfigError(
            "local nodes need root on this machine",
            hint="run as root, or use a remote whose nodes are elsewhere",
        )
    return "yes"


def _kernel() -> str:
    missing = [name for name in _NAMESPACES if not Path("/proc/self/ns", name).exists()]
    if "overlay" not in Path("/proc/filesystems").read_text().split():
        missing.append("overlay")
    if missing:
        raise ConfigError(
            f"the kernel has no {', '.join(missing)}", hint="modprobe overlay, or another kernel"
        )
    return "yes"
