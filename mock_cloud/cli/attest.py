# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud attest`: attest a node and explain the verdict; no build."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from mock_cloud.attest.verdict import NodeRefused, Verdict
from mock_cloud.config.remotes import load_remote
from mock_cloud.errors import InputError
from mock_cloud.session.attesting import Archive
from mock_cloud.session.console import Console
from mock_cloud.session.nodes import look_at_node
from mock_cloud.session.state import cache_dir, state_dir
from mock_cloud.wire.records import unpack

if TYPE_CHECKING:
    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "attest",
        help="attest a node and explain the verdict; no build",
        description="Take a node of the remote, attest it, say why it is trusted or refused, and"
        " give it back. Nothing of a package is sent. Exit status 0 trusted, 77 refused.",
        epilog="example: mock-cloud attest local --json",
    )
    parser.add_argument("name", metavar="NAME", help="the remote")
    parser.add_argument("--arch", default="", help="the node's (default: the remote's first)")
    parser.add_argument("--json", action="store_true", help="print the verdict as JSON")
    parser.add_argument("--evidence", metavar="FILE", type=Path, help="write the evidence here")
    parser.add_argument("--configdir", metavar="DIR", type=Path, help="instead of /etc/mock")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, console: Console) -> int:
    remote = load_remote(arguments.name, arguments.configdir)
    verdict = look_at_node(remote, console, arguments.configdir, arch=arguments.arch)
    if arguments.evidence is not None:
        archive = Archive(cache_dir(), state_dir())
        try:
            with arguments.evidence.open("wb") as stream:
                stream.writelines(unpack([archive.find_evidence(verdict)]))
        except OSError as error:
            raise InputError(f"cannot write {arguments.evidence}: {error.strerror}") from error
    _print(verdict, as_json=arguments.json)
    if not verdict.trusted:
        return NodeRefused.exit_code
    return 0


def _print(verdict: Verdict, *, as_json: bool) -> None:
    if as_json:
        found = json.loads(verdict.to_json())
        print(json.dumps({**found, "sha256": verdict.sha256}, indent=2))
    else:
        print(verdict.to_text(), end="")
