# SPDX-License-Identifier: GPL-2.0-or-later
"""The same build by several builders who know nothing of each other, compared before it counts.

Each is a command of its own, `mock --remote`, with a directory of its own: whatever holds for one
build holds for each of them. Nothing of either is in the resultdir before they agree.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Final

from mock_cloud.config.remotes import load_remote
from mock_cloud.console import Console
from mock_cloud.errors import (
    EXIT_DISAGREED,
    EXIT_INFRASTRUCTURE,
    EXIT_INTERRUPTED,
    EXIT_REFUSED,
    CommandLineError,
    MockCloudError,
    ResultDirError,
)
from mock_cloud.invocation.parser import parse_command_line
from mock_cloud.ledger.entries import EventKind, LedgerEntry, LedgerEvent
from mock_cloud.ledger.store import Ledger
from mock_cloud.model import HostKey
from mock_cloud.repeated.audits import Audit, judge_builds, list_agreements, note_audit
from mock_cloud.repeated.parts import Built, Side, build_part, mark, private_place, publish
from mock_cloud.settings import ProvenanceChoice, Remote
from mock_cloud.steps.lease.builders import name_host
from mock_cloud.steps.sign.renewing import sign_agreed
from mock_cloud.steps.sign.signers import find_signer
from mock_cloud.wire.dataclass import dataclass

_APART: Final = "disagreed-"
SAYS_NOTHING: Final = (EXIT_INFRASTRUCTURE, EXIT_REFUSED, EXIT_INTERRUPTED)
"""Ends that are not the package's."""


class Disagreed(MockCloudError):
    """Builders made different packages of one source: nothing was published."""

    exit_code = EXIT_DISAGREED


@dataclass(frozen=True, slots=True)
class DuplicateOrder:
    """What is built: `words` are mock's, without --remote and --resultdir; by each of `sides`.

    `judge` decides where they do not agree; None: a person does.
    """

    words: tuple[str, ...]
    sides: tuple[Side, ...]
    resultdir: Path
    judge: Side | None = None


def find_side_keys(remotes: Sequence[Remote], console: Console) -> list[HostKey]:
    """The public keys that sign for these remotes; made here, for several commands would make two.

    CommandLineError where a remote keeps nothing that could be verified; ConfigError.
    """
    for remote in remotes:
        if remote.provenance.write is ProvenanceChoice.NEVER or not remote.provenance.evidence:
            raise CommandLineError(
                f"remote {remote.name}: duplicates need its provenance and evidence"
            )
    return list(dict.fromkeys(find_signer(remote, console).public for remote in remotes))


def choose_sides(
    remote: Remote, others: Sequence[Remote], flagged: Collection[str], owner: str = ""
) -> list[Side]:
    """The builders of different owners there are, those of `remote` first, in no order of theirs.

    Machines that one owner lends are one builder, also if two remotes name them; a remote without
    hosts is one too. A `flagged` one gets no work, nor do machines of `owner`.
    """
    found: list[Side] = []
    seen = {owner} - {""}
    for one in (remote, *others):
        hosts: dict[str, list[str]] = {}
        for host in one.hosts:
            if name_host(host) not in flagged:
                hosts.setdefault(host.owner, []).append(host.name)
        owners = [owner for owner in hosts if owner not in seen]
        secrets.SystemRandom().shuffle(owners)
        found += [Side(f"{one.name}-{hosts[owner][0]}", one.name, tuple(hosts[owner]))
                  for owner in owners]  # fmt: skip
        seen.update(owners)
        if not one.hosts and f"{one.provider}:{one.name}" not in flagged:
            found.append(Side(one.name, one.name))
    return found


def build_together(
    order: DuplicateOrder, ledger: Ledger, keys: Sequence[HostKey], console: Console
) -> int:
    """Build on all sides at once, compare, and publish what they agree on; mock's exit code.

    1. All end well: their provenance is verified, their packages are compared, the ledger is told.
    2. They agree (L0 or L1): the first one's results go to the resultdir. 3. They do not: all are
    kept apart below it, and who differs is flagged; with a judge, who agrees with it is
    cleared, and its results are published. 4. All fail alike: the first one's logs are published.

    Raises Disagreed, also where one fails and another does not; ProvenanceRefused, InputError.
    """
    with private_place(order.resultdir) as place:
        with ThreadPoolExecutor(len(order.sides)) as pool:
            built = list(
                pool.map(
                    lambda side: build_part(order.words, side, place, order.resultdir, console),
                    order.sides,
                )
            )
        for one in built:
            if one.code in SAYS_NOTHING:
                console.error(f"remote {one.name}: exit status {one.code}: nothing is published")
                return one.code
        if any(one.code for one in built):
            return end_of_failed(order, built, console)
        audits = [judge_builds(one.place, other.place, keys)
                  for one, other in combinations(built, 2)]  # fmt: skip
        flags = []
        for audit in audits:
            entries = note_audit(ledger, audit)
            flags += [] if audit.agree else entries
        if flags:
            return settle(order, built, audits, flags, ledger, keys, console)
        console.info(f"{_names(built)} agree on {len(audits[0].compared)} packages")
        return _publish_agreed(order, built[0], audits[0].left.job, audits, console)


def _names(built: Sequence[Built]) -> str:
    return "remotes " + " and ".join(one.name for one in built)


def end_of_failed(order: DuplicateOrder, built: Sequence[Built], console: Console) -> int:
    if len({one.code for one in built}) == 1:
        console.info("both builds failed alike" if not built[2:] else "all builds failed alike")
        return publish(built[0], order.resultdir, order.words)
    apart = _keep_apart(order, built)
    ends = ", ".join(f"{one.name} with {one.code}" for one in built)
    raise Disagreed(f"the builds ended otherwise: {ends}",
                    hint=f"nothing was published; all are in {apart}")  # fmt: skip


def settle(
    order: DuplicateOrder,
    built: Sequence[Built],
    audits: Sequence[Audit],
    flags: Sequence[LedgerEntry],
    ledger: Ledger,
    keys: Sequence[HostKey],
    console: Console,
) -> int:
    """After a disagreement: the judge's word, if there is one. Raises Disagreed."""
    apart = _keep_apart(order, built)
    differences = next(audit.differences() for audit in audits if not audit.agree)
    message = f"{_names(built)} do not agree: {differences[:300]}"
    hint = f"nothing was published; all are in {apart}; mock-cloud trust show {flags[0].number}"
    if order.judge is None:
        numbers = ", ".join(str(one.number) for one in flags)
        raise Disagreed(f"{message}; who differs is flagged ({numbers})", hint=hint)
    console.warning(f"{message}; {order.judge.name} decides")
    third = build_part(order.words, order.judge, apart, order.resultdir, console)
    if third.code:
        raise Disagreed(f"{message}; {order.judge.name} ended with {third.code}", hint=hint)
    right: list[Built] = []
    verdicts = list(audits)
    for side in built:
        verdict = judge_builds(apart / side.name, third.place, keys)
        if verdict.agree:
            right.append(replace(side, place=apart / side.name))
            verdicts.append(verdict)
            note_audit(ledger, verdict)
            _clear(ledger, verdict.left.used.node.builder, flags, order.judge.name)
    if not right:
        raise Disagreed(f"{message}; {order.judge.name} agrees with neither", hint=hint)
    job = verdicts[len(audits)].left.job  # the judge's first: of `right`'s first
    code = _publish_agreed(order, right[0], job, verdicts, console)
    kept = _move_out(apart, order.resultdir)
    console.warning(f"{_names(right)}: as {order.judge.name} built it; those results count;"
                    f" the others are in {kept}")  # fmt: skip
    return code


def _move_out(apart: Path, resultdir: Path) -> Path:
    """Beside the resultdir, where that may be written: results that count are verified alone."""
    beside = resultdir.with_name(f"{resultdir.name}-{apart.name}")
    try:
        return apart.rename(beside)
    except OSError:
        return apart


def _publish_agreed(
    order: DuplicateOrder, built: Built, job: str, audits: Sequence[Audit], console: Console
) -> int:
    """Publish it, with who built the same in its provenance; mock's exit code."""
    line = parse_command_line(order.words, os.environ)
    remote = load_remote(built.side.remote, line.configdir_path)
    sign_agreed(built.place, remote, list_agreements(job, audits), console)
    return publish(built, order.resultdir, order.words)


def _clear(ledger: Ledger, builder: str, flags: Sequence[LedgerEntry], judge: str) -> None:
    now_unix, reason = int(time.time()), f"it agrees with the build on {judge}"
    ledger.append(*(
        LedgerEvent(EventKind.CLEARED, builder, now_unix, reason=reason, flag=entry.number)
        for entry in flags if entry.event.builder == builder
    ))  # fmt: skip


def _keep_apart(order: DuplicateOrder, sides: Sequence[Built]) -> Path:
    """Move all sides below the resultdir, each into the directory of its remote."""
    apart = order.resultdir / f"{_APART}{mark()}"
    try:
        apart.mkdir()
        for side in sides:
            if side.place.is_dir():
                side.place.replace(apart / side.name)
    except OSError as error:
        raise ResultDirError(f"cannot write to {apart}: {error.strerror}") from error
    return apart
