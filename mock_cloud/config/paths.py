# SPDX-License-Identifier: GPL-2.0-or-later
"""Where mock would put things on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mock_cloud.config.defaults import ConfigOpts
from mock_cloud.config.overrides import expand_percent
from mock_cloud.config.values import read_text
from mock_cloud.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Paths:
    """`root` is the chroot's name with `--uniqueext`; the rest are absolute paths.

    `basedir` is BASEDIR/ROOT, `rootdir` the chroot's tree, `resultdir` where packages and
    logs go (with --chain: see `chain_results`).
    """

    root: str
    basedir: Path
    rootdir: Path
    resultdir: Path


def locate_paths(opts: ConfigOpts) -> Paths:
    """The paths after `apply_command_line`. ConfigError for a root that is no plain name."""
    root = read_text(opts, "root")
    if not root or root.startswith(".") or "/" in root or "\0" in root or "\n" in root:
        raise ConfigError(f"config_opts['root'] {root!r} is no directory name")
    return Paths(
        root=root,
        basedir=Path(read_text(opts, "basedir")).absolute() / root,
        rootdir=Path(read_text(opts, "rootdir")).absolute(),
        resultdir=Path(expand_percent(read_text(opts, "resultdir"), opts)).absolute(),
    )


def chain_results(localrepo: Path, opts: ConfigOpts) -> Path:
    """The directory under `localrepo` where --chain keeps one directory a package."""
    return localrepo.absolute() / "results" / read_text(opts, "chroot_name")
