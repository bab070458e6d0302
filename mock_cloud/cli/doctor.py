# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud doctor`: what is missing, and how to mend it."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from mock_cloud.cli.health import examine_machine, examine_remote_file
from mock_cloud.cloud.provider import Finding, look
from mock_cloud.console import Console
from mock_cloud.errors import EXIT_CONFIG
from mock_cloud.launcher.standing import describe_by_name, describe_by_path
from mock_cloud.places import MOCK_CONFIG_DIR
from mock_cloud.wire.terminal_text import printable

if TYPE_CHECKING:
    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "doctor",
        help="say what is missing, and how to mend it",
        description="Say what is missing on this machine, or for a remote, and how to mend it."
        " Exit status 0 when nothing is missing, else 3.",
        epilog="examples: mock-cloud doctor; mock-cloud doctor local --json",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="a remote")
    parser.add_argument("--json", action="store_true", help="print a JSON list")
    parser.add_argument("--configdir", metavar="DIR", type=Path, help="instead of /etc/mock")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, console: Console) -> int:
    findings = examine_machine(arguments.configdir)
    etc = arguments.configdir or MOCK_CONFIG_DIR
    findings += [
        look("mock by name", lambda: describe_by_name(os.environ)),
        look("mock by path", lambda: describe_by_path(etc)),
    ]
    if arguments.name is not None:
        findings += examine_remote_file(arguments.name, arguments.configdir)
    if arguments.json:
        print(json.dumps([dataclasses.asdict(one) for one in findings], indent=2))
    else:
        print_findings(findings)
    return 0 if all(one.ok for one in findings) else EXIT_CONFIG


def print_findings(findings: Iterable[Finding]) -> None:
    """One line each, and a second that says how to mend it."""
    for one in findings:
        print(f"{'ok     ' if one.ok else 'MISSING'}  {one.what}: {printable(one.found)}")
        if one.mend:
            print(f"         {printable(one.mend)}")
