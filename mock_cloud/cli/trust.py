# SPDX-License-Identifier: GPL-2.0-or-later
"""`mock-cloud trust`: the ledger of builders: ratings, flags, and what people said of them."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mock_cloud import places
from mock_cloud.cli.verify import find_verify_keys
from mock_cloud.console import Console, print_table
from mock_cloud.errors import EXIT_DIFFERENT, EXIT_REFUSED, ConfigError, InputError
from mock_cloud.ledger.draws import check_draws
from mock_cloud.ledger.entries import FLAGS, BrokenChain, EventKind, LedgerEntry, LedgerEvent
from mock_cloud.ledger.ratings import RULES_NAME, Builder, Rating, rate, read_rules
from mock_cloud.ledger.scratch import sum_savings
from mock_cloud.ledger.store import Ledger, export, read_export
from mock_cloud.model import utc_text
from mock_cloud.places import state_dir
from mock_cloud.repeated.audit_draws import reveal
from mock_cloud.repeated.audits import judge_builds, note_audit
from mock_cloud.steps.sign.signers import write_whole
from mock_cloud.wire.decode import encode
from mock_cloud.wire.terminal_text import printable

if TYPE_CHECKING:
    from mock_cloud.cli.verbs import Verbs

_EXPORT_MAX: Final = 1 << 30


def add_parser(verbs: Verbs) -> None:
    parser = verbs.add_parser(
        "trust",
        help="the ledger of builders: ratings and flags",
        description="What builders did, in a ledger that is appended to and never changed: ratings,"
        " flags, and what people found out about them. A flagged builder gets no work.",
        epilog="examples: mock-cloud trust list; mock-cloud trust record results-a results-b;"
        " mock-cloud trust show 17; mock-cloud trust resolve 17 --guilty --reason 'trojaned gcc'",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="builders and their ratings")
    listing.add_argument("--json", action="store_true", help="print a JSON list")
    listing.set_defaults(run=_list)
    show = actions.add_parser("show", help="what the ledger has of a builder or an entry")
    show.add_argument(
        "what", metavar="BUILDER|NUMBER", help="a builder's name, or an entry's number"
    )
    show.add_argument("--json", action="store_true", help="print the entries as a JSON list")
    show.set_defaults(run=_show)
    record = actions.add_parser(
        "record",
        help="compare two builds of one source, and note whether the builders agree",
        description="Verify the provenance of two directories of results, which two builders made"
        " of one source package in one way, compare their packages, and note it of both. If they"
        " do not agree, both are flagged, and the exit status is 1.",
    )
    record.add_argument("first", type=Path, metavar="DIR")
    record.add_argument("second", type=Path, metavar="DIR")
    record.add_argument("--keys", type=Path, action="append", metavar="FILE",
                        help="public keys that may have signed (default: your own)")  # fmt: skip
    record.set_defaults(run=_record)
    flag = actions.add_parser("flag", help="flag a builder: it gets no work from now on")
    flag.add_argument("builder", metavar="BUILDER")
    flag.add_argument("--reason", required=True, metavar="TEXT", help="why; kept for ever")
    flag.set_defaults(run=_flag)
    resolve = actions.add_parser("resolve", help="say what a flag came to")
    resolve.add_argument("number", type=int, metavar="NUMBER", help="the flag's entry")
    outcome = resolve.add_mutually_exclusive_group(required=True)
    outcome.add_argument("--cleared", action="store_true", help="it was no fault of the builder's")
    outcome.add_argument("--guilty", action="store_true", help="it was: its rating begins anew")
    resolve.add_argument("--reason", required=True, metavar="TEXT", help="why; kept for ever")
    resolve.set_defaults(run=_resolve)
    export_ = actions.add_parser("export", help="write all entries, one a line")
    export_.add_argument(
        "--output", "-o", type=Path, metavar="FILE", help="default: standard output"
    )
    export_.set_defaults(run=_export)
    reveal = actions.add_parser(
        "reveal",
        help="reveal the seed of audits, so that all can draw again",
        description="Write the secret seed from which audits were drawn into the ledger; check then"
        " draws each of them once more. The next audit commits to a new seed.",
    )
    reveal.set_defaults(run=_reveal)
    saved = actions.add_parser(
        "saved",
        help="what scratch builds spared the remotes after them",
        description="Of each scratch remote and the one that builds again what succeeds there: how"
        " many builds there were, how many failed, and how long those took: the other remote was"
        " spared them.",
    )
    saved.add_argument("--json", action="store_true", help="print a JSON list")
    saved.set_defaults(run=_saved)
    check = actions.add_parser(
        "check",
        help="check that nothing was changed or removed",
        description="Check the ledger's chain, and the draws of audits whose seed was revealed;"
        " with an earlier export, also that the ledger goes on where that ended. Exit status 0, or"
        " 77 if it was changed.",
    )
    check.add_argument("--against", type=Path, metavar="FILE", help="an earlier export")
    check.set_defaults(run=_check)


def _ledger() -> Ledger:
    return Ledger(state_dir())


def _rated(entries: Sequence[LedgerEntry]) -> dict[str, Builder]:
    return rate(entries, read_rules(places.config_home() / RULES_NAME), time.time())


def _list(arguments: argparse.Namespace, console: Console) -> int:
    builders = sorted(_rated(_ledger().read()).values(), key=lambda one: one.name)
    if arguments.json:
        print(json.dumps([_to_json(one) for one in builders], indent=2))
        return 0
    rows: list[tuple[str, ...]] = [
        ("BUILDER", "RATING", "BUILDS", "AGREED", "DISAGREED", "REFUSED", "FLAGS")
    ]
    for one in builders:
        flags = " ".join(str(number) for number in one.flags)
        counts = (one.builds, one.agreements, one.disagreements, one.refusals)
        rows.append((one.name, one.rating.value, *map(str, counts), flags))
    print_table(rows)
    return 0


def _to_json(one: Builder) -> dict[str, Any]:
    return {
        "builder": one.name,
        "rating": one.rating.value,
        "builds": one.builds,
        "agreements": one.agreements,
        "disagreements": one.disagreements,
        "refusals": one.refusals,
        "flags": list(one.flags),
        "first_unix": one.first_unix,
    }


def _show(arguments: argparse.Namespace, console: Console) -> int:
    entries = _ledger().read()
    what: str = arguments.what
    if what.isdecimal():
        shown = [one for one in entries if one.number == int(what) or one.event.flag == int(what)]
    else:
        shown = [one for one in entries if what in (one.event.builder, one.event.other)]
    if not shown:
        raise InputError(f"the ledger has nothing of {printable(what)!r}",
                         hint="mock-cloud trust list names builders")  # fmt: skip
    if arguments.json:
        print(json.dumps([encode(one) for one in shown], indent=2))
        return 0
    for one in shown:
        _print_entry(one)
    return 0


def _print_entry(entry: LedgerEntry) -> None:
    event = entry.event
    words = [f"{entry.number}", utc_text(event.time_unix), event.kind.value, event.builder]
    words += [f"with {event.other}"] if event.other else []
    words += [f"flag {event.flag}"] if event.flag else []
    words += [f"job {event.job}"] if event.job else []
    print(printable("  ".join(words)))
    if event.reason:
        print(printable(f"    {event.reason}"))
    for name, digest in event.files.items():
        print(printable(f"    {digest}  {name}"))


def _record(arguments: argparse.Namespace, console: Console) -> int:
    keys = find_verify_keys(arguments.keys)
    audit = judge_builds(arguments.first, arguments.second, keys)
    entries = note_audit(_ledger(), audit)
    if audit.agree:
        console.info(f"they agree: noted as entries {_numbers(entries)}")
        return 0
    console.error(f"they do not agree: both builders are flagged, entries {_numbers(entries)}")
    return EXIT_DIFFERENT


def _flag(arguments: argparse.Namespace, console: Console) -> int:
    event = LedgerEvent(
        EventKind.FLAGGED, arguments.builder, int(time.time()), reason=arguments.reason
    )
    entries = _ledger().append(event)
    console.info(f"flagged: entry {_numbers(entries)}; mock-cloud trust resolve ends it")
    return 0


def _resolve(arguments: argparse.Namespace, console: Console) -> int:
    kind = EventKind.GUILTY if arguments.guilty else EventKind.CLEARED

    def make(entries: Sequence[LedgerEntry]) -> list[LedgerEvent]:
        flags = {one.number: one for one in entries if one.event.kind in FLAGS}
        flag = flags.get(arguments.number)
        if flag is None:
            raise InputError(f"entry {arguments.number} is not a flag",
                             hint="mock-cloud trust list shows open flags")  # fmt: skip
        if any(one.event.flag == flag.number for one in entries):
            raise InputError(f"flag {flag.number} was resolved before")
        return [LedgerEvent(kind, flag.event.builder, int(time.time()), reason=arguments.reason,
                      flag=flag.number)]  # fmt: skip

    entries = _ledger().decide(make)
    console.info(f"resolved: entry {_numbers(entries)}")
    return 0


def _export(arguments: argparse.Namespace, console: Console) -> int:
    data = export(_ledger().read())
    if arguments.output is None:
        console.output(data)
    else:
        write_whole(arguments.output, data)
    return 0


def _reveal(arguments: argparse.Namespace, console: Console) -> int:
    reveal(_ledger(), console)
    return 0


def _saved(arguments: argparse.Namespace, console: Console) -> int:
    found = sum_savings(_ledger().find([EventKind.SCRATCH]))
    if arguments.json:
        print(json.dumps([encode(one) for one in found], indent=2))
        return 0
    rows: list[tuple[str, ...]] = [("SCRATCH", "THEN", "BUILDS", "FAILED", "SPARED")]
    rows += [(one.scratch, one.then, str(one.builds), str(one.failed), f"{one.failed_s} s")
             for one in found]  # fmt: skip
    print_table(rows)
    return 0


def _check(arguments: argparse.Namespace, console: Console) -> int:
    try:
        entries = _ledger().read()
        if arguments.against is not None:
            _check_against(entries, arguments.against)
    except BrokenChain as error:
        console.error(error.message)
        return EXIT_REFUSED
    wrong = list(check_draws(entries))
    for text in wrong:
        console.error(text)
    if wrong:
        return EXIT_REFUSED
    flagged = sum(one.rating is Rating.FLAGGED for one in _rated(entries).values())
    last = f", the last is sha256 {entries[-1].sha256}" if entries else ""
    print(f"unchanged: {len(entries)} entries{last}; {flagged} builders are flagged")
    return 0


def _check_against(entries: Sequence[LedgerEntry], path: Path) -> None:
    try:
        with path.open("rb") as stream:
            data = stream.read(_EXPORT_MAX + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > _EXPORT_MAX:
        raise ConfigError(f"{path} is larger than {_EXPORT_MAX} bytes")
    for number, earlier in enumerate(read_export(data)):
        if number >= len(entries):
            raise BrokenChain(f"the ledger ends with entry {number}, and {path} goes on")
        if entries[number] != earlier:
            raise BrokenChain(f"the ledger's entry {number + 1} is not that of {path}")


def _numbers(entries: Sequence[LedgerEntry]) -> str:
    return " and ".join(str(one.number) for one in entries)
