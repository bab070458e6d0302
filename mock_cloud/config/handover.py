# SPDX-License-Identifier: GPL-2.0-or-later
"""What mock's plugin hands over: mock's own configuration, and the words it was called with.

The other end is mock-plugins/remote.py; docs/decisions/0020 says why it looks like this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeGuard

from mock_cloud.config.defaults import ConfigOpts, default_config_opts
from mock_cloud.errors import ConfigError
from mock_cloud.wire.json_strict import load_json

VERSION: Final = 2
MAX_BYTES: Final = 16 << 20


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


def parse_handover(data: bytes) -> Handover:
    """ConfigError for anything but what this version's plugin writes."""
    try:
        found = load_json(data)
    except ValueError as error:
        raise ConfigError(f"mock's plugin handed over no JSON: {error}") from error
    if not isinstance(found, dict) or found.get("version") != VERSION:
        raise ConfigError(
            "mock's plugin is of another version of mock-cloud than the session",
            hint="install mock-plugins/remote.py of the same version",
        )
    remote, mode = found.get("remote"), found.get("mode")
    argv, options = found.get("argv"), found.get("config_opts")
    program = found.get("mock")
    if (
        not isinstance(remote, str)
        or not isinstance(mode, str)
        or not _are_texts(argv)
        or not _are_texts(program)
        or len(program) != 2
        or not all(path.startswith("/") for path in program)
        or not isinstance(options, dict)
    ):
        raise ConfigError("what mock's plugin handed over is incomplete")
    script, python = map(Path, program)
    return Handover(remote, mode, tuple(argv), _restore(options), script, python)


def _are_texts(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)


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
