# SPDX-License-Identifier: GPL-2.0-or-later
"""One invocation that a running mock handed over to us: see `handover`."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Final

from mock_cloud.config.handover import MAX_BYTES, Handover, parse_handover
from mock_cloud.config.remotes import load_remote
from mock_cloud.console import Console
from mock_cloud.errors import CommandLineError, ConfigError
from mock_cloud.invocation.parser import parse_command_line
from mock_cloud.toolkit.mock_kit import MockProgram

_RENEW: Final = "renew"


def run(words: list[str], console: Console) -> int:
    """Perform it; mock's exit code. MockCloudError, Stopped.

    With ``renew REMOTE DIRECTORY`` and perhaps a configuration directory: sign what was built once
    more, after mock's own plugins have worked on it.
    """
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
    remote = load_remote(handover.remote, Path(line.configdir) if line.configdir else None)
    from mock_cloud.koji.shadow import shadowed  # not before: what they import is large
    from mock_cloud.session import run as build

    # mock has added the repositories of --addrepo to its configuration already.
    return build(
        replace(line, repos=()),
        handover.opts,
        remote,
        console,
        lambda directory, placed: _report(target, directory, placed),
        MockProgram(handover.script, handover.python),
        shadowed,
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
