# SPDX-License-Identifier: GPL-2.0-or-later
"""Two builds of one source by two builders: do they agree, and what the ledger is told of it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from mock_cloud.comparison.levels import Level, Sameness
from mock_cloud.comparison.pairs import Compared, NotComparable, compare_builds
from mock_cloud.errors import InputError
from mock_cloud.ledger.entries import EventKind, LedgerEntry, LedgerEvent, noted_files
from mock_cloud.ledger.store import Ledger
from mock_cloud.model import HostKey
from mock_cloud.provenance.files import digest_file
from mock_cloud.provenance.requirements import Requirements
from mock_cloud.provenance.statement import (
    PROVENANCE_NAME,
    Agreement,
    Provenance,
    ProvenanceRefused,
)
from mock_cloud.provenance.verification import verify_results
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.job_request import SOURCE_ROLES

_REASON_MAX: Final = 2000
ANY_BUILD: Final = Requirements(scratch=True)
"""Of builds that are compared nothing more is asked: scratch builds say something of a builder."""


@dataclass(frozen=True, slots=True)
class Audit:
    """Two builds that were verified, and how their packages compare."""

    left: Provenance
    right: Provenance
    compared: tuple[Compared, ...]
    digests: tuple[str, str]
    """Of what was signed of both."""

    @property
    def agree(self) -> bool:
        """Whether all packages do, at L0 or L1."""
        return all(one.agrees for one in self.compared)

    @property
    def kind(self) -> EventKind:
        return EventKind.AGREED if self.agree else EventKind.DISAGREED

    def differences(self) -> str:
        """What differs, in short."""
        wrong = [one for one in self.compared if not one.agrees]
        return "; ".join(f"{one.package}: {', '.join(one.sameness.differences)}" for one in wrong)


def judge_builds(first: Path, second: Path, keys: Sequence[HostKey]) -> Audit:
    """Compare two directories of results, each of which is verified before.

    What cannot be compared with the other's does not agree with it.

    ProvenanceRefused for one that is not what it says; InputError unless both are builds of one
    source in one way, by two builders.
    """
    try:
        left, right = (verify_results(place, keys, ANY_BUILD, time.time()).signed.provenance
                       for place in (first, second))  # fmt: skip
    except ProvenanceRefused as refused:
        refused.hint = "mock-cloud verify says all that is wrong with a directory"
        raise
    _check_comparable(left, right)
    try:
        compared = compare_builds(first, [second])
    except NotComparable as error:  # what a builder left that is not a package is no way out
        why = error.message.replace(str(first), "the first").replace(str(second), "the second")
        compared = [Compared("packages", second, first, None, Sameness(Level.DIFFERENT, (why,)))]
    digests = [digest_file(place / PROVENANCE_NAME) for place in (first, second)]
    return Audit(left, right, tuple(compared), (digests[0], digests[1]))


def list_agreements(job: str, audits: Iterable[Audit]) -> tuple[Agreement, ...]:
    """Who built the same as that job did, by these audits."""
    found = []
    for audit in audits:
        jobs = [audit.left.job, audit.right.job]
        if audit.agree and job in jobs:
            is_right = jobs[0] == job
            other = audit.right if is_right else audit.left
            level = max(one.sameness.level.value for one in audit.compared)
            node = other.used.node
            found.append(Agreement(node.builder, node.owner, node.host_key, other.job, level,
                                   audit.digests[is_right]))  # fmt: skip
    return tuple(found)


def note_audit(ledger: Ledger, audit: Audit) -> list[LedgerEntry]:
    """An entry of each side. InputError if this very pair is in the ledger."""
    return ledger.decide(lambda earlier: _events(earlier, audit))


def _check_comparable(left: Provenance, right: Provenance) -> None:
    if left.used.node.builder == right.used.node.builder:
        raise InputError(f"both were built by {left.used.node.builder}: it cannot judge itself")
    if left.used.node.owner and left.used.node.owner == right.used.node.owner:
        raise InputError(f"both machines are {left.used.node.owner}'s, who cannot judge himself")
    sources = [
        {one.digest["sha256"] for one in side.dependencies
         if one.annotations.get("role") in SOURCE_ROLES and "sha256" in one.digest}
        for side in (left, right)
    ]  # fmt: skip
    if not sources[0] or sources[0] != sources[1]:
        raise InputError("they were not built of one source package")
    if (left.asked, left.used.macros) != (right.asked, right.used.macros):
        raise InputError("they were not built in one way: options, chroot or macros differ")


def _events(earlier: Sequence[LedgerEntry], audit: Audit) -> list[LedgerEvent]:
    now = int(time.time())
    reason = audit.differences()[:_REASON_MAX]
    events = [
        LedgerEvent(
            audit.kind, mine.used.node.builder, now, job=mine.job,
            other=other.used.node.builder, reason=reason, files=noted_files(mine.results),
        )
        for mine, other in ((audit.left, audit.right), (audit.right, audit.left))
    ]  # fmt: skip
    seen = {(one.event.builder, one.event.job, one.event.other) for one in earlier
            if one.event.kind in (EventKind.AGREED, EventKind.DISAGREED)}  # fmt: skip
    if all((one.builder, one.job, one.other) in seen for one in events):
        raise InputError("this comparison is in the ledger already")
    return events
