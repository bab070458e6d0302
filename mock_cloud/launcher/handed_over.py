# SPDX-License-Identifier: GPL-2.0-or-later
"""One invocation that a running mock handed over to us: see `handover`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final

from mock_cloud.config.defaults import ConfigOpts, default_config_opts
from mock_cloud.config.remotes import load_remote
from mock_cloud.console import Console
from mock_cloud.errors import CommandLineError, ConfigError
from mock_cloud.invocation.parser import parse_command_line
from mock_cloud.launcher.extras import (
    count_duplicates,
    find_shadowing,
    find_then,
    is_random,
    part_of,
)
from mock_cloud.progress.timeline import ProgressMode
from mock_cloud.toolkit.mock_kit import MockProgram
from mock_cloud.wire.dataclass import dataclass
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


_RENEW: Final = "renew"
_PROGRESS: Final = "--progress="
"""Before all else, where the launcher was asked for it."""


def run(words: list[str], console: Console) -> int:
    """Perform it; mock's exit code. MockCloudError, Stopped.

    With ``renew REMOTE DIRECTORY`` and perhaps a configuration directory: sign what was built once
    more, after mock's own plugins have worked on it.
    """
    if words[:1] and words[0].startswith(_PROGRESS):
        console.set_progress(ProgressMode(words.pop(0).removeprefix(_PROGRESS)))
    if words[:1] == [_RENEW] and len(words) in (3, 4):
        return _renew(*words[1:], console=console)
    if len(words) != 2 or not all(word.isdecimal() for word in words):
        raise CommandLineError(
            "mock-cloud-session is started by mock's plugin", hint="run mock --remote NAME"
        )
    source, target = map(int, words)
    handover = parse_handover(_read(source))
    line = parse_command_line(handover.argv, os.environ)
    _check_mode(handover, "list-snapshots" if line.list_snapshots else line.mode)
    console.set_verbosity(line.verbose)
    configdir = line.configdir_path
    remote = part_of(load_remote(handover.remote, configdir))
    if find_then(line, remote) or count_duplicates(line, remote) or is_random(line, remote):
        raise ConfigError(
            f"remote {remote.name}: what it builds is built again elsewhere, which mock's plugin"
            " cannot do",
            hint="run mock-cloud's own mock: mock-cloud launcher --help says how",
        )
    from mock_cloud.session import run as build  # not before: what it imports is large

    # mock has added the repositories of --addrepo to its configuration already.
    return build(
        replace(line, repos=()),
        handover.opts,
        remote,
        console,
        lambda directory, placed: _report(target, directory, placed),
        MockProgram(handover.script, handover.python),
        find_shadowing(line, remote),
    )


def _renew(name: str, place: str, configdir: str = "", *, console: Console) -> int:
    from mock_cloud.steps.sign.renewing import renew_provenance  # as below

    renew_provenance(
        Path(place), load_remote(name, Path(configdir) if configdir else None), console
    )
    return 0


def _check_mode(handover: Handover, mode: str) -> None:
    if mode != handover.mode:
        raise CommandLineError(
            f"mock takes this command line for --{handover.mode}, mock-cloud for --{mode}",
            hint="say the mode with an option of its own, before everything else",
        )


def _read(descriptor: int) -> bytes:
    try:
        with os.fdopen(descriptor, "rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read what mock handed over: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise ConfigError("mock's configuration is larger than 16 MiB")
    return data


def _report(descriptor: int, directory: Path, placed: tuple[Path, ...]) -> None:
    """Which packages arrived, for mock's plugins that work on them."""
    packages = [str(path.relative_to(directory)) for path in placed if path.suffix == ".rpm"]
    report = json.dumps({"directory": str(directory), "packages": sorted(packages)})
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, report.encode(), 0)
    except OSError as error:
        raise ConfigError(f"cannot report to mock: {error.strerror}") from error
