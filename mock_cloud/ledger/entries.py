# SPDX-License-Identifier: GPL-2.0-or-later
"""Entries of the ledger: each holds the digest of the one before, so that none can be changed.

An entry's body is canonical JSON; its digest is the sha256 of the body. The first names the digest
of nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from enum import Enum
from typing import Annotated, Final

from mock_cloud.attest.manifest import json_bytes
from mock_cloud.errors import ConfigError
from mock_cloud.model import TIME_MAX
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.decode import Limits, Malformed, Sha256, at_most, decode_bytes, encode, within

FIRST: Final = hashlib.sha256(b"").hexdigest()
"""What the first entry has for the digest of the one before it."""
ENTRY_MAX: Final = 64 << 10

_FILES_MAX: Final = 500
_FILES_BYTES_MAX: Final = ENTRY_MAX // 2
_LIMITS: Final = Limits(text=4096, items=1000, surrogates=False)


class EventKind(Enum):
    """What happened."""

    BUILT = "built"
    """A build left packages on an attested node."""
    REFUSED = "refused"
    """A node was refused."""
    AGREED = "agreed"
    """The same was built by another builder, with the same outcome (L0 or L1)."""
    DISAGREED = "disagreed"
    """The same was built by another builder, with another outcome. It is a flag."""
    FLAGGED = "flagged"
    """A person flagged the builder."""
    CLEARED = "cleared"
    """A person found that a flag was no fault of the builder's."""
    GUILTY = "guilty"
    """A person found that it was."""
    SEEDED = "seeded"
    """The controller committed itself to a seed of audits, by its digest."""
    DRAWN = "drawn"
    """Whether a build is built once more, by the seed; `flag` is the build's entry."""
    REVEALED = "revealed"
    """A seed, which draws nothing any more."""
    RESIGNED = "resigned"
    """Packages of a build were signed here: `files` are their digests since."""
    SCRATCH = "scratch"
    """A scratch build ended, after which `other` builds the same, or was spared it."""


FLAGS: Final = (EventKind.DISAGREED, EventKind.FLAGGED)
RESOLUTIONS: Final = (EventKind.CLEARED, EventKind.GUILTY)


@dataclass(frozen=True, slots=True)
class LedgerEvent:
    """What happened to a builder, by the controller's clock.

    `builder` is its stable identity. `job` is the build's, `reason` a person's words. `files` are
    digests (sha256, hex) by name: packages, or both sides of a comparison. `flag` is the number of
    the entry that a resolution is about, 0 for none; `other` the builder that it was compared with.
    """

    kind: EventKind
    builder: Annotated[str, at_most(300)]
    time_unix: Annotated[int, within(0, TIME_MAX)]
    job: Annotated[str, at_most(100)] = ""
    other: Annotated[str, at_most(300)] = ""
    reason: Annotated[str, at_most(2000)] = ""
    flag: Annotated[int, within(0, 1 << 50)] = 0
    files: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """An event in its place: `number` counts from 1, `previous` is the digest of the one before."""

    number: Annotated[int, within(1, 1 << 50)]
    previous: Sha256
    event: LedgerEvent

    @property
    def body(self) -> bytes:
        """Canonical JSON: the same entry is the same bytes."""
        return json_bytes(encode(self))

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.body).hexdigest()


def noted_files(files: Mapping[str, str]) -> dict[str, str]:
    """How digests of files stand in an entry: as they are, or one digest of many.

    That one is of what sha256sum prints of them, sorted by name.
    """
    if len(json_bytes(dict(files))) <= _FILES_BYTES_MAX and len(files) <= _FILES_MAX:
        return dict(files)
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(files.items()))
    return {f"{len(files)} files": hashlib.sha256(lines.encode()).hexdigest()}


class BrokenChain(ConfigError):
    """Entries that are not, in this order, what was once written."""


def parse_entry(body: bytes) -> LedgerEntry:
    """The entry with this body. Malformed, also if it is not its canonical form."""
    if len(body) > ENTRY_MAX:
        raise Malformed(f"an entry of {len(body)} bytes")
    entry = decode_bytes(LedgerEntry, body, "entry", limits=_LIMITS)
    if entry.body != body:
        raise Malformed("an entry that is not in canonical form")
    return entry


def check_chain(bodies: Iterable[bytes]) -> Iterator[LedgerEntry]:
    """The entries with these bodies, one after the other. BrokenChain where one does not follow."""
    number, previous = 1, FIRST
    for body in bodies:
        try:
            entry = parse_entry(body)
        except Malformed as error:
            raise BrokenChain(f"the ledger's entry {number} cannot be read: {error}") from error
        if entry.number != number:
            raise BrokenChain(f"the ledger's entry {number} is missing: {entry.number} is there")
        if entry.previous != previous:
            raise BrokenChain(f"the ledger's entry {number} does not follow the one before it")
        yield entry
        number, previous = number + 1, entry.sha256
