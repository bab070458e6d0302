# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud launcher`: make `mock` mean the launcher, or mock with our plugin."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from mock_cloud.console import Console
from mock_cloud.errors import EXIT_CONFIG, CommandLineError
from mock_cloud.launcher import install_site, install_user
from mock_cloud.launcher.edits import Edit, make_edits
from mock_cloud.launcher.status import look_at_launchers
from mock_cloud.places import MOCK_CONFIG_DIR
from mock_cloud.wire.terminal_text import printable

if TYPE_CHECKING:
    from mock_cloud.cli.verbs import Verbs

_DESCRIPTION = """\
Make `mock` understand --remote, in one of two ways.

--user: a directory of yours with a link `mock` to the launcher, which has to stand on your PATH
before mock's own. The shell's profile is changed with --profile only.

--site, as root: mock's plugin is installed into the mock of this machine and switched on in
site-defaults.cfg, for everybody and for programs that start /usr/bin/mock by its path, as kojid
does. No file of mock's package is replaced.
"""
_EXAMPLES = """\
examples:
  mock-cloud launcher status                        what is installed, and whether it works
  mock-cloud launcher enable                        the directory; prints what to add to the PATH
  mock-cloud launcher enable --profile              and adds it to the shell's profile
  mock-cloud launcher enable --site --remote cloud  all builds of this machine go to "cloud"
  mock-cloud launcher enable --site --dry-run       what would be changed
  mock-cloud launcher disable --site                as it was before
"""


def add_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "launcher",
        help="make `mock` understand --remote, for you or for this machine",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, text in (("enable", "install one of the ways"), ("disable", "take it away again")):
        action = actions.add_parser(name, help=text, description=text.capitalize() + ".")
        way = action.add_mutually_exclusive_group()
        way.add_argument("--user", action="store_true", help="for you, by the PATH (default)")
        way.add_argument("--site", action="store_true", help="for this machine, by mock's plugin")
        action.add_argument(
            "--profile",
            metavar="FILE",
            type=Path,
            nargs="?",
            const=install_user.default_profile(os.environ),
            help="with --user: the shell's profile that the PATH is set in"
            " (without FILE: your shell's usual one)",
        )
        if name == "enable":
            action.add_argument("--remote", metavar="NAME", help="with --site: where all builds go")
        action.add_argument("--dry-run", action="store_true", help="only say what would be done")
        _add_configdir(action)
        action.set_defaults(run=_enable if name == "enable" else _disable)
    status = actions.add_parser(
        "status",
        help="what is installed, and whether it works",
        description="Say what is installed. Exit status 0 if nothing of it is broken, else 3.",
    )
    status.add_argument("--json", action="store_true", help="print a JSON list")
    _add_configdir(status)
    status.set_defaults(run=show)


def _add_configdir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--configdir",
        metavar="DIR",
        type=Path,
        default=MOCK_CONFIG_DIR,
        help="instead of /etc/mock",
    )


def _enable(arguments: argparse.Namespace, console: Console) -> int:
    if arguments.remote is not None and not arguments.site:
        raise CommandLineError("--remote goes with --site", hint="or set MOCK_REMOTE")
    _check_profile(arguments)
    if arguments.site:
        edits = install_site.enable_for_site(os.environ, arguments.configdir, arguments.remote)
    else:
        edits = install_user.enable_for_user(os.environ, arguments.profile)
    _tell(edits, arguments, console)
    if not arguments.site and arguments.profile is None:
        directory = install_user.own_directory(os.environ)
        if str(directory) not in os.environ.get("PATH", "").split(os.pathsep):
            console.info("for your shell's profile, or with --profile written there:")
            print(install_user.shell_lines(directory), end="")
    return 0


def _disable(arguments: argparse.Namespace, console: Console) -> int:
    _check_profile(arguments)
    if arguments.site:
        edits = install_site.disable_for_site(os.environ, arguments.configdir)
    else:
        edits = install_user.disable_for_user(os.environ, arguments.profile)
    _tell(edits, arguments, console)
    return 0


def _check_profile(arguments: argparse.Namespace) -> None:
    if arguments.profile is not None and arguments.site:
        raise CommandLineError("--profile goes with --user")


def _tell(edits: list[Edit], arguments: argparse.Namespace, console: Console) -> None:
    if not edits:
        console.info("nothing to do")
    would = "would " if arguments.dry_run else ""
    for edit in make_edits(edits, dry_run=arguments.dry_run):
        console.info(f"{would}{edit.what}: {edit.path}")


def show(arguments: argparse.Namespace, _console: Console) -> int:
    ways = look_at_launchers(os.environ, arguments.configdir)
    if arguments.json:
        print(json.dumps([dataclasses.asdict(one) for one in ways], indent=2))
    else:
        for one in ways:
            place = f"{one.path}: " if one.path else ""
            print(f"{'on ' if one.on else 'off'}  {one.way:8} {printable(place + one.found)}")
            if one.problem:
                print(f"     {'':8} {printable(one.problem)}")
    return EXIT_CONFIG if any(one.problem for one in ways) else 0
