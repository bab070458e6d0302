# SPDX-License-Identifier: GPL-2.0-or-later
"""What becomes of mock's isolation on a node: a jail takes systemd-nspawn's place.

Decision 0068 says why. Both engines judge it alike.
"""

from __future__ import annotations

import json
import re
from typing import Final

from mock_cloud.config.defaults import ConfigOpts, default_config_opts
from mock_cloud.config.stages import needs_setting
from mock_cloud.config.values import read_option
from mock_cloud.errors import ConfigError, UnsupportedByEngine
from mock_cloud.invocation.model import CommandLine

# What mock itself adds where it would start systemd-nspawn (_setup_nspawn_*_device in its
# buildroot.py), before a plugin sees the options: devices of this machine.
_MOCKS_OWN: Final = re.compile(
    r"--bind=/dev/(btrfs-control|mapper/control|fuse|loop-control|loop\d+)"
)
_NAMES: Final = ("nspawn_args", "bootstrap_nspawn_args")


def check_isolation(opts: ConfigOpts, line: CommandLine) -> None:
    """Raise UnsupportedByEngine for options of systemd-nspawn, where mock would pass them on."""
    if _wanted(opts, line) == "simple" or not needs_setting(line, "nspawn_args"):
        return
    usual = default_config_opts()["nspawn_args"]
    for name in _NAMES:
        words = read_option(opts, name) or []
        if not isinstance(words, (list, tuple)) or not all(isinstance(word, str) for word in words):
            raise ConfigError(f"config_opts[{name!r}] should be a list of strings")
        others = [word for word in words if not _MOCKS_OWN.fullmatch(word)]
        if others and others != list(usual):
            strange = next((word for word in others if word not in usual), others[0])
            raise UnsupportedByEngine(
                f"config_opts[{name!r}] {json.dumps(strange)} cannot be used on a node:"
                " systemd-nspawn does not run there",
                hint="isolation = 'simple' does without them, as in mock; the plugin bind_mount of"
                " the mock engine takes files and directories along",
            )


def isolation_warnings(opts: ConfigOpts, line: CommandLine) -> list[str]:
    """What to say where systemd-nspawn was asked for by name."""
    if _wanted(opts, line) != "nspawn" or not needs_setting(line, "isolation"):
        return []
    return ["isolation: on a node a jail takes the place of systemd-nspawn"]


def _wanted(opts: ConfigOpts, line: CommandLine) -> str:
    """simple, nspawn, or auto where mock would choose (setup_default_config_opts in config.py)."""
    if line.isolation:
        return line.isolation
    if line.new_chroot or line.old_chroot:
        return "nspawn" if line.new_chroot else "simple"
    named = read_option(opts, "isolation")
    if named in ("simple", "nspawn", "auto"):
        return str(named)
    return {True: "nspawn", False: "simple"}.get(read_option(opts, "use_nspawn"), "auto")
