# SPDX-License-Identifier: GPL-2.0-or-later
"""What mock's plugin hands over: mock's own configuration, and the words it was called with.

The other end is mock-plugins/remote.py; docs/decisions/0020 says why it looks like this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from mock_cloud.config.defaults import ConfigOpts, default_config_opts
from mock_cloud.errors import ConfigError
from mock_cloud.wire.decode import Limits, Malformed, decode, load_json, matching

HANDOVER_VERSION: Final = 2
MAX_BYTES: Final = 16 << 20


_Absolute = Annotated[str, matching(r"(?s)/.*", "an absolute path")]


@dataclass(frozen=True, slots=True)
class Handover:
    """One invocation of mock. `argv` is without the program's name.

    `opts` is mock's final configuration: the command line has been applied to it. `mode` is
    what mock took the command line for. `script` is mock's program, run by `python`.
    """

    remote: str
    mode: str
    argv: tuple[str, ...]
    opts: ConfigOpts
    script: Path
    python: Path


@dataclass(frozen=True, slots=True)
class _Handed:
    """The JSON object that the plugin writes. `mock`: script and interpreter."""

    version: int
    remote: str
    mode: str
    argv: tuple[str, ...]
    mock: tuple[_Absolute, _Absolute]
    config_opts: dict[str, Any]


def parse_handover(data: bytes) -> Handover:
    """ConfigError for anything but what this version's plugin writes."""
    try:
        found = load_json(data)
        if not isinstance(found, dict) or found.get("version") != HANDOVER_VERSION:
            raise ConfigError(
                "mock's plugin is of another version of mock-cloud than the session",
                hint="install mock-plugins/remote.py of the same version",
            )
        handed = decode(_Handed, found, limits=Limits(text=MAX_BYTES))
    except Malformed as error:
        raise ConfigError(f"what mock's plugin handed over is malformed: {error}") from error
    script, python = map(Path, handed.mock)
    opts = _restore(handed.config_opts)
    return Handover(handed.remote, handed.mode, handed.argv, opts, script, python)


def _restore(options: Mapping[str, Any]) -> ConfigOpts:
    """mock's options with templates expanded on access, as mock has them."""
    opts = default_config_opts()
    for name in [name for name in opts if not name.startswith("_") and name not in options]:
        del opts[name]
    opts.update(options)
    opts["__jinja_expand"] = True
    _forget_emulation(opts)
    return opts


def _forget_emulation(opts: ConfigOpts) -> None:
    # Before plugins have a say, mock turns emulation on for targets that this machine can't run
    # (check_arch_combination in mock.py). The node is one that can.
    target = opts.get("target_arch")
    if opts.get("forcearch") != target or opts.get("host_arch") in opts.get(
        "legal_host_arches", [target]
    ):
        return
    opts["forcearch"] = None
    if opts["macros"].get("%_platform_multiplier") == 10:
        opts["macros"]["%_platform_multiplier"] = 1
