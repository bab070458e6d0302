# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud release`: give nodes back now."""

from __future__ import annotations

import argparse
import dataclasses
import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mock_cloud.cloud.listing import Released, release
from mock_cloud.config.remotes import load_remote
from mock_cloud.console import Console
from mock_cloud.errors import EXIT_INFRASTRUCTURE, CommandLineError
from mock_cloud.places import state_dir
from mock_cloud.settings import Remote
from mock_cloud.steps.release.ending import start_ending

if TYPE_CHECKING:
    from mock_cloud.cli.verbs import Verbs


def add_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "release",
        help="give nodes back now",
        description="Give nodes back now, with the chroots on them. A node at work is left alone.",
        epilog="examples: mock-cloud release local; mock-cloud release --all",
    )
    parser.add_argument("target", nargs="*", metavar="NAME|LEASE", help="a remote, or one lease")
    parser.add_argument("--all", action="store_true", help="all nodes of yours")
    parser.add_argument(
        "--force", action="store_true", help="those at work too, and leases without a node"
    )
    parser.add_argument(
        "--wait",
        action=argparse.BooleanOptionalAction,
        help="return when they have ended; by default on a terminal as soon as that has begun",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON list")
    parser.add_argument("--configdir", metavar="DIR", type=Path, help="instead of /etc/mock")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, console: Console) -> int:
    if arguments.all == bool(arguments.target):
        raise CommandLineError(
            "name remotes or leases, or give --all", hint="mock-cloud nodes lists them"
        )

    def load(name: str) -> Remote:
        return load_remote(name, arguments.configdir, to_end=True)

    is_waiting = arguments.wait
    if is_waiting is None:
        is_waiting = arguments.json or not console.is_terminal
    end_beside = None if is_waiting else partial(start_ending, configdir=arguments.configdir)
    released: list[Released] = []
    for target in [None] if arguments.all else arguments.target:
        released += release(state_dir(), target, load, force=arguments.force, end_beside=end_beside)
    if arguments.json:
        print(json.dumps([dataclasses.asdict(one) for one in released], indent=2))
    else:
        _tell(released, console)
    return EXIT_INFRASTRUCTURE if any(one.problem for one in released) else 0


def _tell(released: list[Released], console: Console) -> None:
    for one in released:
        if one.is_forgotten:
            console.warning(
                f"{one.lease} of remote {one.remote} is forgotten: no node of it was ever known,"
                f" and the remote could not be asked; later, mock-cloud reap {one.remote} looks"
            )
        elif one.is_ending:
            console.info(
                f"{one.lease} of remote {one.remote} is being ended in the background:"
                " mock-cloud nodes lists it until it is gone"
            )
        elif one.problem is None:
            console.info(f"released {one.lease} of remote {one.remote}")
        else:
            console.error(f"{one.lease} of remote {one.remote} was not released: {one.problem}")
    if not released:
        console.info("no nodes")
