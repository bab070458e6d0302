# SPDX-License-Identifier: GPL-2.0-or-later
"""A build by several owners' nodes at once, which is published only if they agree."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Final

from mock_cloud.config.remotes import load_remote
from mock_cloud.console import Console
from mock_cloud.errors import CloudError, CommandLineError, ConfigError
from mock_cloud.invocation.model import ANY_HOST, PART, CommandLine
from mock_cloud.launcher.scratch import PACKAGE_BUILDS
from mock_cloud.places import state_dir
from mock_cloud.settings import Remote

_LEAVE_PACKAGES: Final = (*PACKAGE_BUILDS, "chain")


def part_of(remote: Remote) -> Remote:
    """The remote as far as this command may use it: a part of another one may have fewer hosts.

    It then turns to no other remote, whose owner might be the other builder's. ConfigError.
    """
    names = os.environ.get(PART, ANY_HOST)
    if names == ANY_HOST:
        return remote
    hosts = tuple(host for host in remote.hosts if host.name in names.split(","))
    if not hosts:
        raise ConfigError(f"remote {remote.name} has none of the hosts in {PART}")
    return replace(remote, hosts=hosts, fallback=())


def count_duplicates(line: CommandLine, remote: Remote) -> int:
    """How many builders are to build it; 0 if it is one, as always. CommandLineError."""
    count = remote.audit.duplicates if line.duplicate is None else line.duplicate
    word = "[audit] duplicates" if line.duplicate is None else "--duplicate"
    if count == 0 or PART in os.environ:
        return 0
    if line.duplicate is not None and line.mode not in _LEAVE_PACKAGES:
        raise CommandLineError(f"--duplicate compares packages: not with --{line.mode}")
    return count if compares_packages(line, remote, word) else 0


def compares_packages(line: CommandLine, remote: Remote, word: str) -> bool:
    """Whether what `word` asks for, a comparison of packages, is for this command.

    CommandLineError where it leaves packages that would not be compared.
    """
    if PART in os.environ or line.mode not in _LEAVE_PACKAGES:
        return False
    if line.is_kojis:
        wrong = "kojid, whose builds are several commands each"
    elif line.is_several:
        wrong = "--jobs"
    elif line.detach:
        wrong = "--detach"
    elif line.mode in PACKAGE_BUILDS:
        return True
    else:
        wrong = f"--{line.mode}"
    raise CommandLineError(
        f"remote {remote.name}: {word} compares the packages of one build in the foreground: not"
        f" with {wrong}",
        hint="build the packages one by one, or on a remote without it",
    )


def build_duplicates(
    line: CommandLine, remote: Remote, count: int, resultdir: Path, console: Console
) -> int:
    """Build with `count` builders, and publish what they agree on; mock's exit code.

    CloudError where there are not so many; as `cli.duplicates.build_together`.
    """
    from mock_cloud.cli.duplicates import (  # these take a while
        DuplicateOrder,
        build_together,
        choose_sides,
        find_side_keys,
    )
    from mock_cloud.cli.parts import Side
    from mock_cloud.ledger.store import Ledger
    from mock_cloud.steps.lease.builders import find_flagged

    settings = remote.audit
    configdir = Path(line.configdir) if line.configdir else None
    others = [load_remote(name, configdir) for name in settings.remotes if name != remote.name]
    judge = load_remote(settings.judge, configdir) if settings.judge else None
    ledger = Ledger(state_dir())
    sides = choose_sides(remote, others, find_flagged(ledger))[:count]
    if len(sides) < count:
        raise CloudError(
            f"remote {remote.name}: {count} builders of different owners are wanted, and there are"
            f" {len(sides)}",
            hint="name more remotes in [audit] remotes; mock-cloud trust list shows flags",
        )
    if judge is not None and judge.name in {side.remote for side in sides}:
        raise ConfigError(f"remote {judge.name} cannot judge what it builds itself")
    keys = find_side_keys([remote, *others, *([judge] if judge else [])], console)
    by = None if judge is None else Side(judge.name, judge.name)
    return build_together(
        DuplicateOrder(line.argv, tuple(sides), resultdir, by), ledger, keys, console
    )
