# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud-session`: performs what mock's plugin took over, as the user who called mock.

Its two arguments are numbers of open files: one to read what mock handed over from, one to
write a report of the results to.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mock_cloud.config import Handover, load_remote, parse_handover
from mock_cloud.config.handover import MAX_BYTES
from mock_cloud.errors import CommandLineError, ConfigError
from mock_cloud.invocation import parse_command_line
from mock_cloud.session.console import Console
from mock_cloud.session.ending import end_well
from mock_cloud.toolkit.mock_kit import MockProgram


def main(argv: Sequence[str] | None = None) -> int:
    """Perform one invocation that a running mock handed over; mock's exit code, or ours."""
    words = list(sys.argv[1:] if argv is None else argv)
    console = Console()
    return end_well(console, lambda: _run(words, console))


def _run(words: list[str], console: Console) -> int:
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
    from mock_cloud.session.build import run  # not before it is needed: it imports paramiko

    # mock has added the repositories of --addrepo to its configuration already.
    return run(
        replace(line, repos=()),
        handover.opts,
        remote,
        console,
        lambda directory, placed: _report(target, directory, placed),
        MockProgram(handover.script, handover.python),
    )


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


if __name__ == "__main__":
    sys.exit(main())
