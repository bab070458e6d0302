# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line of `mock-cloud`: one sub-command a module."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NoReturn

from mock_cloud import __version__
from mock_cloud.console import Console
from mock_cloud.errors import EXIT_COMMAND_LINE
from mock_cloud.exit_status import end_well
from mock_cloud.jump_master import sharing_jumps
from mock_cloud.progress.listeners import listening

if TYPE_CHECKING:
    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]

VERBS: Final = (
    "setup", "doctor", "attest", "jobs", "attach", "logs", "wait", "cancel", "nodes", "release",
    "reap", "policy", "known-good", "image", "toolkit", "verify", "compare", "report", "export",
    "trust", "duplicate", "audit", "lend", "launcher", "completion",
)  # fmt: skip
_NEED_ALL: Final = ("completion",)

EXAMPLES = """\
examples:
  mock-cloud setup cloud          write and check a remote
  mock-cloud doctor               what is missing on this machine, and how to mend it
  mock-cloud doctor local         the same for the remote "local"
  mock-cloud attest local         attest a node and explain the verdict; no build
  mock-cloud jobs                 what builds, and what waits to be fetched
  mock-cloud attach JOB           take a job up again, to its end
  mock-cloud policy show strict   the rules of a verdict, with their reasons
  mock-cloud nodes --json         the nodes held in your name
  mock-cloud release --all        give them all back now
  mock-cloud reap --all           end what commands that died left behind
  mock-cloud verify RESULTDIR     check a finished build's provenance
  mock-cloud compare A B          whether two resultdirs are the same build
  mock-cloud report RESULTDIR -o report.html    a page about a build, for people
  mock-cloud trust list           builders, their ratings and flags

mock -r CONFIG --remote NAME foo.src.rpm builds; see mock-cloud-mock(1).
"""


class _Parser(argparse.ArgumentParser):
    """As mock does, a wrong command line exits with 5; argparse's own is 2."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        hint = f"{self.prog} --help says what each is for"
        self.exit(EXIT_COMMAND_LINE, f"ERROR: {message}\n       {hint}\n")


def make_parser(first: str = "") -> argparse.ArgumentParser:
    """The parser, with all verbs unless `first`, the command line's first word, is one.

    It is in its own result too: completion is made from it.
    """
    parser = _Parser(
        prog="mock-cloud",
        description="Look after the nodes that mock --remote builds on.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"mock-cloud {__version__}")
    parser.set_defaults(whole_parser=parser)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="COMMAND")
    # The others' modules are not read: they take longer than what most verbs do.
    for verb in (first,) if first in VERBS and first not in _NEED_ALL else VERBS:
        module = importlib.import_module(f"mock_cloud.cli.{verb.replace('-', '_')}")
        module.add_parser(verbs)
    return parser


def run(argv: Sequence[str] | None) -> int:
    """Run one command, by default the process's own; see `cli.main`."""
    words = list(sys.argv[1:] if argv is None else argv)
    console = Console()

    def act() -> int:
        arguments = make_parser(words[0] if words else "").parse_args(words)
        with listening(console.show), sharing_jumps():
            return int(arguments.run(arguments, console))

    return end_well(console, act)
