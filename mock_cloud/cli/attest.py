# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud attest`: attest a node and explain the verdict; no build."""

from __future__ import annotations

import argparse
import json
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from mock_cloud.attest.reason_codes import explanations, find_near
from mock_cloud.attest.verdict import NodeRefused, Verdict
from mock_cloud.cloud.claim import LeaseRequest
from mock_cloud.config.remotes import load_remote
from mock_cloud.console import Console
from mock_cloud.errors import CommandLineError, InputError
from mock_cloud.places import cache_dir, state_dir
from mock_cloud.remote.trusted import trust
from mock_cloud.settings import Remote
from mock_cloud.steps.attest.attesting import Archive
from mock_cloud.steps.attest.hardening import hardened, plan_hardening
from mock_cloud.steps.attest.known_good_sets import KnownGoods
from mock_cloud.steps.attest.policies import tightened
from mock_cloud.steps.attest.verdicts import attest
from mock_cloud.steps.lease.node import begin_use, leased_node, node_arch, reached
from mock_cloud.steps.release.clean_up import cleaned_up
from mock_cloud.wire.records import unpack
from mock_cloud.wire.terminal_text import printable

if TYPE_CHECKING:
    from mock_cloud.cli.verbs import Verbs


def add_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "attest",
        help="attest a node and explain the verdict; no build",
        description="Take a node of the remote, attest it, say why it is trusted or refused, and"
        " give it back. Nothing of a package is sent. Exit status 0 trusted, 77 refused. Or explain"
        " a code of a refusal; that needs no remote.",
        epilog="examples: mock-cloud attest local --json; mock-cloud attest --explain file.digest",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("name", nargs="?", metavar="NAME", help="the remote")
    what.add_argument("--explain", metavar="CODE", help="what CODE means, and what to do")
    what.add_argument("--list-codes", action="store_true", help="all codes that a refusal can have")
    parser.add_argument("--arch", default="", help="the node's (default: the remote's first)")
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    parser.add_argument("--evidence", metavar="FILE", type=Path, help="write the evidence here")
    parser.add_argument("--configdir", metavar="DIR", type=Path, help="instead of /etc/mock")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, console: Console) -> int:
    if arguments.explain is not None or arguments.list_codes:
        _explain(arguments.explain, as_json=arguments.json)
        return 0
    remote = load_remote(arguments.name, arguments.configdir)
    verdict = _look_at_node(remote, console, arguments.configdir, arch=arguments.arch)
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


def _look_at_node(
    remote: Remote, console: Console, configdir: Path | None, *, arch: str
) -> Verdict:
    """Lease, attest and give back a node; the verdict, trusted or refused."""
    remote = tightened(remote)
    use = begin_use(remote, node_arch(remote, arch), console)
    known_goods = KnownGoods(remote, use.arch)
    for warning in known_goods.warnings:
        console.warning(f"remote {remote.name}: {warning}")
    try:
        with (
            cleaned_up(use.archive.state_dir, configdir, console),
            leased_node(use, LeaseRequest("(attest)")) as leased,
            reached(use) as use.node,
        ):
            use.known = known_goods.of(leased)
            attested = attest(use)
            hardening = plan_hardening(remote.provider, leased)
            if hardening is not None:  # it is kept for a build, and must end if none comes
                channel = trust(use.node, attested.proof)
                with closing(channel), hardened(channel, leased, hardening, console):
                    pass
            console.done()
            return attested.verdict
    except NodeRefused as refused:
        console.done()
        return refused.verdict


def _explain(code: str | None, *, as_json: bool) -> None:
    """The page of `code`, or a line of each code there is. CommandLineError: there is no such."""
    found = [one for one in explanations() if code in (None, one.code)]
    if code is not None and not found:
        near = ", ".join(find_near(code))
        raise CommandLineError(
            f"no refusal has the code {printable(code)!r}",
            hint=f"there are: {near}" if near else "mock-cloud attest --list-codes lists all",
        )
    if as_json:
        rows = [asdict(one) for one in found]
        print(json.dumps(rows if code is None else rows[0], indent=2))
    elif code is not None:
        print(found[0].to_text())
    else:
        width = max(len(one.code) for one in found)
        for one in found:
            print(f"{one.code:{width}}  {one.seen}")


def _print(verdict: Verdict, *, as_json: bool) -> None:
    if as_json:
        found = json.loads(verdict.to_json())
        print(json.dumps({**found, "sha256": verdict.sha256}, indent=2))
    else:
        print(verdict.to_text(), end="")
