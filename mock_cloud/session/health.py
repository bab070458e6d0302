# SPDX-License-Identifier: GPL-2.0-or-later
"""Looks at this machine and at a remote's settings; changes nothing, leases nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mock_cloud.cloud.hosts.provider import examine_host
from mock_cloud.cloud.listing import list_rows
from mock_cloud.cloud.local.plan import check_image
from mock_cloud.config import MOCK_CONFIG_DIR, list_remotes, load_remote
from mock_cloud.errors import ConfigError, MockCloudError
from mock_cloud.model import Toolkit
from mock_cloud.session.known_good import KnownGoods
from mock_cloud.session.state import state_dir
from mock_cloud.session.toolkits import toolkits_dir
from mock_cloud.settings import Remote, ToolkitSettings
from mock_cloud.toolkit import own_arch, pack, toolkit_for

_NAMESPACES = ("mnt", "pid", "uts", "ipc", "net")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `mend` says how to mend it, and is empty when `ok`."""

    what: str
    ok: bool
    found: str
    mend: str = ""


def examine_machine(configdir: Path | None) -> list[Finding]:
    """What every remote build needs on this machine."""
    return [
        _try("python", _python),
        _try("state directory", lambda: f"{state_dir()}, {len(list_rows(state_dir()))} nodes"),
        _try("toolkit", _toolkit),
        _try("chroot configurations", lambda: _chroots(configdir or MOCK_CONFIG_DIR)),
        _try("remotes", lambda: _remotes(configdir)),
    ]


def examine_remote(name: str, configdir: Path | None) -> list[Finding]:
    """What the remote `name` needs besides."""
    findings: list[Finding] = []
    remote: Remote | None = None

    def settings() -> str:
        nonlocal remote
        remote = load_remote(name, configdir)
        return f"{remote.source}: provider {remote.provider}, {' '.join(remote.arches)}"

    findings.append(_try(f"remote {name}", settings))
    if remote is not None:
        known: Remote = remote
        findings.append(_try("known-good set", lambda: _known_good(known)))
        for arch in remote.arches:
            if arch != own_arch() or remote.toolkit != ToolkitSettings():
                findings.append(_try(f"toolkit for {arch}", _foreign(remote, arch)))
        for host in remote.hosts:
            findings.append(_try(f"host {host.name}", partial(examine_host, host)))
        if known.local is not None:
            image = known.local.image
            findings.append(_try("image", lambda: _image(image)))
            findings.append(_try("root", _root))
            findings.append(_try("namespaces and overlayfs", _kernel))
    return findings


def _try(what: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(what, True, look())
    except MockCloudError as error:
        return Finding(what, False, error.message, error.hint or "")


def _python() -> str:
    return ".".join(map(str, sys.version_info[:3]))


def _toolkit() -> str:
    packed = pack(toolkits_dir())
    return _described(packed)


def _described(packed: Toolkit) -> str:
    size = packed.archive.stat().st_size >> 10
    return f"{len(packed.files)} files, {size:,} KiB, {packed.arch}, sha256 {packed.digest[:16]}"


def _foreign(remote: Remote, arch: str) -> Callable[[], str]:
    return lambda: _described(toolkit_for(toolkits_dir(), arch, remote.toolkit))


def _chroots(directory: Path) -> str:
    count = len(list(directory.glob("*.cfg")))
    if not count:
        raise ConfigError(
            f"no chroot configurations in {directory}",
            hint="install mock-core-configs, or name a directory with --configdir",
        )
    return f"{count} files in {directory}"


def _remotes(configdir: Path | None) -> str:
    names = [remote.name for remote in list_remotes(configdir)]
    if not names:
        raise ConfigError(
            "none", hint="write ~/.config/mock/remotes.d/NAME.toml, see mock-cloud-remotes(5)"
        )
    return " ".join(names)


def _known_good(remote: Remote) -> str:
    known = KnownGoods(remote, remote.arches[0]).any
    manifest = known.manifest
    return f"{manifest.name}: {len(manifest.packages)} packages, made {manifest.created}"


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
