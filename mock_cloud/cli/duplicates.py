# SPDX-License-Identifier: GPL-2.0-or-later
"""The same build by two builders who know nothing of each other, compared before it is published.

Each is a command of its own, `mock --remote`, with a directory of its own: whatever holds for one
build holds for each of them. Nothing of either is in the resultdir before they agree.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mock_cloud.cli.audits import Audit, judge_builds, note_audit
from mock_cloud.cli.parts import Built, build_part, mark, private_place, publish
from mock_cloud.console import Console
from mock_cloud.errors import (
    EXIT_DISAGREED,
    EXIT_INFRASTRUCTURE,
    EXIT_REFUSED,
    MockCloudError,
    ResultDirError,
)
from mock_cloud.ledger.entries import EventKind, LedgerEntry, LedgerEvent
from mock_cloud.ledger.store import Ledger
from mock_cloud.model import HostKey

_APART: Final = "disagreed-"


class Disagreed(MockCloudError):
    """Two builders made different packages of one source: nothing was published."""

    exit_code = EXIT_DISAGREED


@dataclass(frozen=True, slots=True)
class DuplicateOrder:
    """What is built: `words` are mock's, without --remote and --resultdir; on two `remotes`.

    `judge` is a remote that decides where they do not agree; empty: a person does.
    """

    words: tuple[str, ...]
    remotes: tuple[str, str]
    resultdir: Path
    judge: str = ""


def build_twice(
    order: DuplicateOrder, ledger: Ledger, keys: Sequence[HostKey], console: Console
) -> int:
    """Build on both remotes at once, compare, and publish what they agree on; mock's exit code.

    1. Both end well: their provenance is verified, their packages are compared, the ledger is told.
    2. They agree (L0 or L1): the first one's results go to the resultdir. 3. They do not: both are
    kept apart below it, both builders are flagged; with a judge, whoever agrees with it is cleared,
    and its results are published. 4. Both fail alike: the first one's logs are published.

    Raises Disagreed, also where one fails and the other does not; ProvenanceRefused, InputError.
    """
    with private_place(order.resultdir) as place:
        with ThreadPoolExecutor(2) as pool:
            left, right = pool.map(
                lambda name: build_part(order.words, name, place, console), order.remotes
            )
        for one in (left, right):
            if one.code in (EXIT_INFRASTRUCTURE, EXIT_REFUSED):
                console.error(f"remote {one.name}: exit status {one.code}: nothing is published")
                return one.code
        if left.code or right.code:
            return _end_of_failed(order, left, right, console)
        audit = judge_builds(left.place, right.place, keys)
        entries = note_audit(ledger, audit)
        if audit.agree:
            publish(left.place, order.resultdir)
            console.info(f"remotes {left.name} and {right.name} agree on"
                         f" {len(audit.compared)} packages")  # fmt: skip
            return 0
        return _settle(order, (left, right), audit, entries, ledger, keys, console)


def _end_of_failed(order: DuplicateOrder, left: Built, right: Built, console: Console) -> int:
    if left.code == right.code:
        publish(left.place, order.resultdir)
        console.info("both builds failed alike")
        return left.code
    apart = _keep_apart(order, (left, right))
    raise Disagreed(
        f"remote {left.name} ended with {left.code}, {right.name} with {right.code}",
        hint=f"nothing was published; both are in {apart}",
    )


def _settle(
    order: DuplicateOrder,
    sides: tuple[Built, Built],
    audit: Audit,
    entries: Sequence[LedgerEntry],
    ledger: Ledger,
    keys: Sequence[HostKey],
    console: Console,
) -> int:
    """After a disagreement: the judge's word, if there is one. Raises Disagreed."""
    apart = _keep_apart(order, sides)
    flags = ", ".join(str(one.number) for one in entries)
    names = " and ".join(one.name for one in sides)
    message = f"remotes {names} do not agree: {audit.differences()[:300]}"
    hint = f"nothing was published; both are in {apart}; mock-cloud trust show {entries[0].number}"
    if not order.judge:
        raise Disagreed(f"{message}; both are flagged ({flags})", hint=hint)
    console.warning(f"{message}; {order.judge} decides")
    third = build_part(order.words, order.judge, apart, console)
    if third.code:
        raise Disagreed(f"{message}; {order.judge} ended with {third.code}", hint=hint)
    for side, entry in zip(sides, entries, strict=True):
        verdict = judge_builds(apart / side.name, third.place, keys)
        if verdict.agree:
            note_audit(ledger, verdict)
            reason = f"it agrees with the build on {order.judge}"
            ledger.append(LedgerEvent(EventKind.CLEARED, entry.event.builder, int(time.time()),
                                reason=reason, flag=entry.number))  # fmt: skip
            publish(apart / side.name, order.resultdir)
            console.warning(f"remote {side.name} agrees with {order.judge}: its results count")
            return 0
    raise Disagreed(f"{message}; {order.judge} agrees with neither", hint=hint)


def _keep_apart(order: DuplicateOrder, sides: Sequence[Built]) -> Path:
    """Move both sides below the resultdir, each into the directory of its remote."""
    apart = order.resultdir / f"{_APART}{mark()}"
    try:
        apart.mkdir()
        for side in sides:
            if side.place.is_dir():
                side.place.replace(apart / side.name)
    except OSError as error:
        raise ResultDirError(f"cannot write to {apart}: {error.strerror}") from error
    return apart
