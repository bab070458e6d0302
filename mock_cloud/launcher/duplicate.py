# SPDX-License-Identifier: GPL-2.0-or-later
"""A build by several owners' nodes at once, which is published only if they agree."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from mock_cloud.config.remotes import load_remote
from mock_cloud.console import Console
from mock_cloud.errors import CloudError, CommandLineError, ConfigError
from mock_cloud.invocation.model import ANY_HOST, PART, CommandLine
from mock_cloud.launcher.scratch import PACKAGE_BUILDS
from mock_cloud.places import state_dir
from mock_cloud.settings import Remote


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
    if PART in os.environ or count == 0:
        return 0
    if line.is_several:
        raise CommandLineError(
            "--jobs: what is built at once has one builder for each package",
            hint="leave out --jobs, or --duplicate and [audit] duplicates",
        )
    if line.mode in PACKAGE_BUILDS and not line.detach:
        return count
    if line.duplicate is not None:
        word = "--detach" if line.detach else f"--{line.mode}"
        raise CommandLineError(f"--duplicate builds packages in the foreground: not with {word}")
    if line.detach:
        raise CommandLineError(f"remote {remote.name} has [audit] duplicates: not with --detach")
    return 0


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
