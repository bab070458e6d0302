# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud audit`: build once more elsewhere what chance says, and compare."""

from __future__ import annotations

import argparse
import secrets
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mock_cloud.cli.audits import ANY_BUILD, judge_builds, note_audit
from mock_cloud.cli.duplicate import check_words
from mock_cloud.cli.duplicates import Disagreed
from mock_cloud.cli.parts import Side, build_part, mark
from mock_cloud.cli.verify import find_verify_keys
from mock_cloud.config.remotes import load_remote
from mock_cloud.console import Console
from mock_cloud.errors import EXIT_INFRASTRUCTURE, EXIT_REFUSED, ConfigError, InputError
from mock_cloud.ledger.draws import (
    SEED_BYTES,
    commit_seed,
    draw,
    find_commitment,
    note_draw,
    reveal_seed,
)
from mock_cloud.ledger.entries import EventKind, LedgerEntry, LedgerEvent
from mock_cloud.ledger.ratings import RULES_NAME, Rating, rate, read_rules
from mock_cloud.ledger.store import Ledger
from mock_cloud.model import HostKey
from mock_cloud.places import config_home, state_dir
from mock_cloud.provenance.statement import Provenance
from mock_cloud.provenance.verification import verify_results
from mock_cloud.wire.files import replace_file

if TYPE_CHECKING:
    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]

SEED_NAME: Final = "audit-seed"


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
    load_remote(arguments.remote, Path(line.configdir) if line.configdir else None)
    keys = find_verify_keys(arguments.keys)
    place: Path = arguments.place
    provenance = verify_results(place, keys, ANY_BUILD, time.time()).signed.provenance
    ledger = Ledger(state_dir())
    if not _is_drawn(ledger, provenance, _find_seed(ledger, console), console):
        return 0
    return _build_again(arguments, ledger, keys, console)


def reveal(ledger: Ledger, console: Console) -> None:
    """End the seed that there is; the next audit makes another one. InputError without one."""
    path = state_dir() / SEED_NAME
    if not path.exists():
        raise InputError("no seed of audits was committed to", hint="mock-cloud audit makes one")
    seed = _read_seed(path)
    entries = ledger.append(reveal_seed(seed, int(time.time())))
    path.unlink()
    console.info(f"revealed: entry {entries[0].number}; mock-cloud trust check draws once more")


def _find_seed(ledger: Ledger, console: Console) -> bytes:
    """The seed that this machine is committed to; made and committed to if there is none."""
    path = state_dir() / SEED_NAME
    try:
        if not path.exists():
            replace_file(path, secrets.token_bytes(SEED_BYTES).hex().encode(), 0o600)
        seed = _read_seed(path)
    except OSError as error:
        raise ConfigError(f"cannot make the seed {path}: {error.strerror}") from error

    def commit(entries: Sequence[LedgerEntry]) -> list[LedgerEvent]:
        if find_commitment(entries, seed) is not None:
            return []
        return [commit_seed(seed, int(time.time()))]

    for entry in ledger.decide(commit):
        console.info(f"committed to a new seed of audits: entry {entry.number}")
    return seed


def _read_seed(path: Path) -> bytes:
    try:
        seed = bytes.fromhex(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"the seed {path} cannot be read: {error}") from error
    if len(seed) != SEED_BYTES:
        raise ConfigError(f"the seed {path} has {len(seed)} bytes, not {SEED_BYTES}")
    return seed


def _is_drawn(ledger: Ledger, provenance: Provenance, seed: bytes, console: Console) -> bool:
    """Draw, or go by what was drawn before. InputError for a build that the ledger does not have.

    A build that was there before the seed was is audited, and nothing is drawn for it.
    """
    rules = read_rules(config_home() / RULES_NAME)
    said: list[tuple[str, bool]] = []

    def make(entries: Sequence[LedgerEntry]) -> list[LedgerEvent]:
        built = _find_build(entries, provenance)
        if _is_compared(entries, built):
            said.append(("audited before", False))
            return []
        for entry in entries:
            event = entry.event
            if event.kind is EventKind.DRAWN and event.flag == built.number:
                said.append((event.reason, event.reason.startswith("audited")))
                return []
        commitment = find_commitment(entries, seed)
        if commitment is None or commitment.number > built.number:
            said.append(("audited: its seed was not committed to before the build", True))
            return []
        builder = rate(entries, rules, time.time()).get(built.event.builder)
        rating = Rating.NEW if builder is None else builder.rating
        found = draw(seed, built, rules.audits.of(rating))
        said.append((f"{found.words} for {rating.value} builders", found.is_audited))
        return [note_draw(found, built, seed, int(time.time()))]

    ledger.decide(make)
    ((words, is_audited),) = said
    console.info(f"{provenance.used.node.builder}, job {provenance.job}: {words}")
    return is_audited


def _find_build(entries: Sequence[LedgerEntry], provenance: Provenance) -> LedgerEntry:
    wanted = (provenance.used.node.builder, provenance.job)
    for entry in reversed(entries):
        event = entry.event
        if event.kind is EventKind.BUILT and (event.builder, event.job) == wanted:
            if event.files.items() <= provenance.results.items():
                return entry
            raise InputError(f"job {provenance.job} left other packages, says the ledger")
    raise InputError(f"the ledger has no build of job {provenance.job}",
                     hint="a build is audited by the machine that had it built")  # fmt: skip


def _is_compared(entries: Sequence[LedgerEntry], built: LedgerEntry) -> bool:
    wanted = (built.event.builder, built.event.job)
    return any((one.event.builder, one.event.job) == wanted for one in entries
               if one.event.kind in (EventKind.AGREED, EventKind.DISAGREED))  # fmt: skip


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
    again = build_part(arguments.words, Side(arguments.remote, arguments.remote), place, console)
    if again.code in (EXIT_INFRASTRUCTURE, EXIT_REFUSED):
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
