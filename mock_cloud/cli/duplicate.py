# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud duplicate`: build twice, on two builders' nodes, and publish what they agree on."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mock_cloud.cli.verify import find_verify_keys
from mock_cloud.config.remotes import load_remote
from mock_cloud.console import Console
from mock_cloud.errors import CommandLineError
from mock_cloud.invocation.model import PACKAGE_BUILDS, CommandLine
from mock_cloud.invocation.parser import parse_command_line
from mock_cloud.ledger.store import Ledger
from mock_cloud.places import state_dir
from mock_cloud.repeated.duplicates import DuplicateOrder, build_together, find_side_keys
from mock_cloud.repeated.parts import Side

if TYPE_CHECKING:
    from mock_cloud.cli.verbs import Verbs


def add_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "duplicate",
        help="build twice, by two builders, and publish what they agree on",
        description="Build the same on two remotes at once, compare the packages, and move them to"
        " the resultdir only if they agree (L0 or L1). If not, both are kept apart there, both"
        " builders are flagged, and the exit status is 76. Exit status of a build that fails alike"
        " on both: mock's own.",
        epilog="example: mock-cloud duplicate --remote alpha --remote beta --resultdir results --"
        " -r fedora-43-x86_64 hello-2.12-1.src.rpm",
    )
    parser.add_argument("--remote", action="append", required=True, metavar="REMOTE",
                        help="twice: where to build")  # fmt: skip
    parser.add_argument("--judge", default="", metavar="REMOTE",
                        help="where to build once more if they do not agree")  # fmt: skip
    parser.add_argument("--resultdir", required=True, type=Path, metavar="DIR")
    parser.add_argument("--keys", type=Path, action="append", metavar="FILE",
                        help="public keys that may sign (default: your own)")  # fmt: skip
    parser.add_argument("words", nargs="+", metavar="WORD", help="mock's words, after --")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, console: Console) -> int:
    remotes = arguments.remote
    if len(remotes) != 2 or len({*remotes, arguments.judge}) != 3:
        raise CommandLineError("two different remotes are wanted, and another one as a judge")
    line = check_words(arguments.words)
    configdir = line.configdir_path
    names = [*remotes, *filter(None, [arguments.judge])]
    own = find_side_keys([load_remote(name, configdir) for name in names], console)
    keys = own if arguments.keys is None else find_verify_keys(arguments.keys)
    sides = [Side(name, name) for name in names]
    order = DuplicateOrder(
        tuple(arguments.words), tuple(sides[:2]), arguments.resultdir.absolute(), *sides[2:]
    )
    return build_together(order, Ledger(state_dir()), keys, console)


def check_words(words: Sequence[str]) -> CommandLine:
    """mock's words for a build that is compared. CommandLineError."""
    line = parse_command_line(words, os.environ)
    if line.mode not in PACKAGE_BUILDS:
        raise CommandLineError(f"--{line.mode}: only packages can be compared")
    if line.resultdir is not None or line.remote is not None:
        raise CommandLineError("--resultdir and --remote belong before the --")
    return line
