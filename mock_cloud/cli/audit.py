# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud audit`: build once more elsewhere what chance says, and compare."""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mock_cloud.cli.duplicate import check_words
from mock_cloud.cli.verify import find_verify_keys
from mock_cloud.config.remotes import load_remote
from mock_cloud.console import Console
from mock_cloud.errors import InputError
from mock_cloud.ledger.store import Ledger
from mock_cloud.model import HostKey
from mock_cloud.places import state_dir
from mock_cloud.provenance.verification import verify_results
from mock_cloud.repeated.audit_draws import find_seed, is_drawn
from mock_cloud.repeated.audits import ANY_BUILD, judge_builds, note_audit
from mock_cloud.repeated.duplicates import SAYS_NOTHING, Disagreed
from mock_cloud.repeated.parts import Side, build_part, mark

if TYPE_CHECKING:
    from mock_cloud.cli.verbs import Verbs


def add_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "audit",
        help="build once more, on another remote, what chance says",
        description="Draw whether a finished build of this machine's is built once more. How likely"
        " that is depends on its builder's rating; the draw follows from a secret seed, to which"
        " the ledger was committed before the build, and from the digests of what was built: the"
        " builder cannot know it, and this machine cannot choose it. If it is drawn, build on"
        " another remote, compare, and note it of both builders. Exit status 0 if it was passed"
        " over or both agree, 76 if they do not: then both builders are flagged.",
        epilog="example: mock-cloud audit results --remote beta -- -r fedora-43-x86_64"
        " hello-2.12-1.src.rpm",
    )
    parser.add_argument("place", type=Path, metavar="DIR", help="the resultdir of the build")
    parser.add_argument("--remote", required=True, metavar="REMOTE", help="another builder's")
    parser.add_argument("--keys", type=Path, action="append", metavar="FILE",
                        help="public keys that may have signed (default: your own)")  # fmt: skip
    parser.add_argument("words", nargs="+", metavar="WORD", help="mock's words, after --")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, console: Console) -> int:
    line = check_words(arguments.words)
    load_remote(arguments.remote, line.configdir_path)
    keys = find_verify_keys(arguments.keys)
    place: Path = arguments.place
    provenance = verify_results(place, keys, ANY_BUILD, time.time()).signed.provenance
    ledger = Ledger(state_dir())
    if not is_drawn(ledger, provenance, find_seed(ledger, console), console):
        return 0
    return _build_again(arguments, ledger, keys, console)


def _build_again(
    arguments: argparse.Namespace, ledger: Ledger, keys: Sequence[HostKey], console: Console
) -> int:
    """On the other remote, beside the results, and compare. Raises Disagreed."""
    first: Path = arguments.place.absolute()
    place = first.with_name(f"{first.name}-audit-{mark()}")
    try:
        place.mkdir(mode=0o700)
    except OSError as error:
        raise InputError(f"cannot make {place}: {error.strerror}") from error
    side = Side(arguments.remote, arguments.remote)
    again = build_part(arguments.words, side, place, first, console)
    if again.code in SAYS_NOTHING:
        shutil.rmtree(place, ignore_errors=True)
        console.error(f"remote {arguments.remote}: exit status {again.code}: not compared")
        return again.code
    if again.code:
        raise Disagreed(f"remote {arguments.remote} ended with {again.code}",
                        hint=f"what it left is in {place}")  # fmt: skip
    audit = judge_builds(first, again.place, keys)
    entries = note_audit(ledger, audit)
    if audit.agree:
        shutil.rmtree(place, ignore_errors=True)
        console.info(f"remote {arguments.remote} agrees on {len(audit.compared)} packages")
        return 0
    flags = ", ".join(str(one.number) for one in entries)
    raise Disagreed(
        f"remote {arguments.remote} does not agree: {audit.differences()[:300]};"
        f" both builders are flagged ({flags})",
        hint=f"the other build is in {place}; mock-cloud trust show {entries[0].number}",
    )
