# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a finished build is built once more: this machine's seed of audits, and its draws."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mock_cloud.console import Console
from mock_cloud.errors import ConfigError, InputError
from mock_cloud.ledger.draws import (
    SEED_BYTES,
    commit_seed,
    draw,
    find_commitment,
    note_draw,
    reveal_seed,
)
from mock_cloud.ledger.entries import EventKind, LedgerEntry, LedgerEvent, noted_files
from mock_cloud.ledger.ratings import RULES_NAME, Rating, rate, read_rules
from mock_cloud.ledger.store import Ledger
from mock_cloud.places import config_home, state_dir
from mock_cloud.provenance.statement import Provenance
from mock_cloud.wire.files import create_file

SEED_NAME: Final = "audit-seed"


def reveal(ledger: Ledger, console: Console) -> None:
    """End the seed that there is; the next audit makes another one. InputError without one."""
    path = state_dir() / SEED_NAME
    if not path.exists():
        raise InputError("no seed of audits was committed to", hint="mock-cloud audit makes one")
    seed = _read_seed(path)
    entries = ledger.append(reveal_seed(seed, int(time.time())))
    path.unlink()
    console.info(f"revealed: entry {entries[0].number}; mock-cloud trust check draws once more")


def find_seed(ledger: Ledger, console: Console) -> bytes:
    """The seed that this machine is committed to; made and committed to if there is none."""
    path = state_dir() / SEED_NAME
    try:
        if not path.exists():
            # Of two seeds one could be chosen, so another command's counts.
            create_file(path, secrets.token_bytes(SEED_BYTES).hex().encode())
    except OSError as error:
        raise ConfigError(f"cannot make the seed {path}: {error.strerror}") from error
    seed = _read_seed(path)

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


def is_drawn(ledger: Ledger, provenance: Provenance, seed: bytes, console: Console) -> bool:
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
    files = noted_files(provenance.results)
    is_as_noted = False
    for entry in reversed(entries):
        event = entry.event
        if (event.builder, event.job) != wanted:
            continue
        if event.kind in (EventKind.BUILT, EventKind.RESIGNED):
            is_as_noted |= event.files == files
        if event.kind is EventKind.BUILT:
            if is_as_noted:
                return entry
            raise InputError(f"job {provenance.job} left other packages, says the ledger")
    raise InputError(f"the ledger has no build of job {provenance.job}",
                     hint="a build is audited by the machine that had it built")  # fmt: skip


def _is_compared(entries: Sequence[LedgerEntry], built: LedgerEntry) -> bool:
    wanted = (built.event.builder, built.event.job)
    return any((one.event.builder, one.event.job) == wanted for one in entries
               if one.event.kind in (EventKind.AGREED, EventKind.DISAGREED))  # fmt: skip
