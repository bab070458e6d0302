# SPDX-License-Identifier: GPL-2.0-or-later
"""Which builds are built once more, by chance: drawn so that neither side can know or choose it.

1. The digest of a secret seed is in the ledger before the build (`SEEDED`). 2. The build's own
entry, with its packages' digests, follows (`BUILT`): the builder has committed itself. 3. The draw
is the HMAC of that entry's digest under the seed. 4. Once the seed is revealed (`REVEALED`) anybody
with the ledger draws again.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterator, Sequence
from typing import Final

from mock_cloud.ledger.entries import EventKind, LedgerEntry, LedgerEvent
from mock_cloud.wire.dataclass import dataclass

CONTROLLER: Final = "controller"
"""Who seeds and reveals, in the place of a builder's name; builders' names have a colon."""
SEED_BYTES: Final = 32

_SEED: Final = "seed"
_OF_SEEDS: Final = (EventKind.SEEDED, EventKind.REVEALED)
_SAID: Final = re.compile(r"(audited|passed over), ([0-9.e-]+) of ([0-9.e-]+)")


@dataclass(frozen=True, slots=True)
class Draw:
    """What the seed says of a build: it is audited if `value` is below `probability`."""

    value: float
    probability: float

    @property
    def is_audited(self) -> bool:
        return self.value < self.probability

    @property
    def words(self) -> str:
        """For the ledger."""
        word = "audited" if self.is_audited else "passed over"
        return f"{word}, {self.value!r} of {self.probability!r}"


def commit_seed(seed: bytes, now_unix: int) -> LedgerEvent:
    """The event that says the seed's digest."""
    files = {_SEED: hashlib.sha256(seed).hexdigest()}
    return LedgerEvent(EventKind.SEEDED, CONTROLLER, now_unix, files=files)


def reveal_seed(seed: bytes, now_unix: int) -> LedgerEvent:
    """The event that says the seed itself: it draws nothing any more."""
    digest = hashlib.sha256(seed).hexdigest()
    return LedgerEvent(
        EventKind.REVEALED, CONTROLLER, now_unix, reason=seed.hex(), files={_SEED: digest}
    )


def find_commitment(entries: Sequence[LedgerEntry], seed: bytes) -> LedgerEntry | None:
    """Where the digest of this seed stands, unless the seed was revealed since."""
    digest = hashlib.sha256(seed).hexdigest()
    found = None
    for entry in entries:
        if entry.event.files.get(_SEED) == digest and entry.event.kind in _OF_SEEDS:
            found = entry if entry.event.kind is EventKind.SEEDED else None
    return found


def draw(seed: bytes, built: LedgerEntry, probability: float) -> Draw:
    """For the build whose entry is `built`; the same each time."""
    found = hmac.digest(seed, built.sha256.encode(), hashlib.sha256)
    return Draw(int.from_bytes(found[:6], "big") / (1 << 48), probability)


def note_draw(found: Draw, built: LedgerEntry, seed: bytes, now_unix: int) -> LedgerEvent:
    """The event that says what was drawn for `built`."""
    files = {_SEED: hashlib.sha256(seed).hexdigest()}
    event = built.event
    return LedgerEvent(
        EventKind.DRAWN, event.builder, now_unix, job=event.job, reason=found.words,
        flag=built.number, files=files,
    )  # fmt: skip


def check_draws(entries: Sequence[LedgerEntry]) -> Iterator[str]:
    """What is wrong with the draws of seeds that were revealed; nothing if all are as they were.

    Also a seed that was not committed to before the build, one of two from which the better one
    could be chosen, a build drawn twice, and one that was to be audited and was compared with
    nothing.
    """
    yield from _check_one_seed(entries)
    numbered = {entry.number: entry for entry in entries}
    seeds = {one.event.files.get(_SEED): one for one in entries
             if one.event.kind is EventKind.REVEALED}  # fmt: skip
    committed = {one.event.files.get(_SEED): one.number for one in reversed(entries)
                 if one.event.kind is EventKind.SEEDED}  # fmt: skip
    compared = {(one.event.builder, one.event.job) for one in entries
                if one.event.kind in (EventKind.AGREED, EventKind.DISAGREED)}  # fmt: skip
    drawn = set()
    for digest, entry in seeds.items():
        if hashlib.sha256(_unhex(entry.event.reason)).hexdigest() != digest:
            yield f"entry {entry.number} reveals another seed than was committed to"
    for entry in entries:
        event = entry.event
        revealed = seeds.get(event.files.get(_SEED))
        if event.kind is not EventKind.DRAWN or revealed is None:
            continue
        built = numbered.get(event.flag)
        if built is None or built.event.kind is not EventKind.BUILT:
            yield f"entry {entry.number} draws for no build"
            continue
        if not committed.get(event.files[_SEED], entry.number) < built.number:
            yield f"entry {entry.number}: its seed was not committed to before the build"
        if built.number in drawn:
            yield f"entry {entry.number} draws once more for build {built.number}"
        drawn.add(built.number)
        said = _SAID.fullmatch(event.reason)
        found = draw(_unhex(revealed.event.reason), built, float(said[3]) if said else 0.0)
        if found.words != event.reason:
            yield f"entry {entry.number} is not what its seed draws: {found.words}"
        elif found.is_audited and (event.builder, event.job) not in compared:
            yield f"entry {entry.number}: the build was to be audited, and was not"


def _check_one_seed(entries: Sequence[LedgerEntry]) -> Iterator[str]:
    """A seed draws until it is revealed. Until then no other is committed to."""
    unrevealed: LedgerEntry | None = None
    for entry in entries:
        if entry.event.kind is EventKind.REVEALED:
            unrevealed = None
        elif entry.event.kind is EventKind.SEEDED:
            if unrevealed is not None:
                yield (
                    f"entry {entry.number} commits to another seed before that of entry"
                    f" {unrevealed.number} was revealed"
                )
            unrevealed = entry


def _unhex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""
