# SPDX-License-Identifier: GPL-2.0-or-later
"""How far a builder is relied on, by what the ledger has of it and a few rules."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import field
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Final

from mock_cloud.errors import ConfigError
from mock_cloud.ledger.entries import FLAGS, RESOLUTIONS, EventKind, LedgerEntry
from mock_cloud.model import DAY_S
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.decode import Malformed, decode, encode, within

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


RULES_NAME: Final = "mock/trust.toml"
"""A user's own rules, in the directory of the user's configuration."""


class Rating(Enum):
    """From no reliance to much; a flagged builder gets no work."""

    FLAGGED = "flagged"
    NEW = "new"
    PROVEN = "proven"
    SPONSOR = "sponsor"


@dataclass(frozen=True, slots=True)
class Step:
    """What a rating takes: so many agreements since the last fault, and so many days since it.

    Agreements count once for each other builder and day, so that two cannot raise each other.
    """

    agreements: Annotated[int, within(0, 1_000_000)]
    days: Annotated[float, within(0, 100_000)]


_Probability = Annotated[float, within(0, 1)]


@dataclass(frozen=True, slots=True)
class AuditRates:
    """How many of the builds of a builder with this rating are built once more, 0 to 1."""

    new: _Probability = 0.5
    proven: _Probability = 0.1
    sponsor: _Probability = 0.02

    def of(self, rating: Rating) -> float:
        """A flagged builder gets no work; what it had under way is looked at."""
        return {Rating.NEW: self.new, Rating.PROVEN: self.proven, Rating.SPONSOR: self.sponsor}.get(
            rating, 1.0
        )


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of ratings. `refusals` within `refusal_days` make a builder new again; 0: none do.

    A refused node may just be stale; one that is refused again and again is not looked after.
    """

    proven: Step = Step(agreements=10, days=30)
    sponsor: Step = Step(agreements=100, days=365)
    refusals: Annotated[int, within(0, 1000)] = 3
    refusal_days: Annotated[float, within(0, 10_000)] = 30

    audits: AuditRates = AuditRates()


_DEFAULT: Final = Rules()


_NO_BUILDERS: Final = (EventKind.SEEDED, EventKind.REVEALED, EventKind.SCRATCH)
"""Events of the controller's own, and of remotes."""


@dataclass(slots=True)
class Builder:
    """One builder: its rating, what it did, and its open flags by the numbers of their entries."""

    name: str
    first_unix: int
    rating: Rating = Rating.NEW
    builds: int = 0
    agreements: int = 0
    disagreements: int = 0
    refusals: int = 0
    flags: dict[int, LedgerEntry] = field(default_factory=dict)
    since_unix: int = 0
    _counted: set[tuple[str, int]] = field(default_factory=set, repr=False)
    _refused: list[int] = field(default_factory=list, repr=False)


def rate(entries: Iterable[LedgerEntry], rules: Rules, now_unix: float) -> dict[str, Builder]:
    """All builders in the ledger, by their names, as they stand at `now_unix`."""
    found: dict[str, Builder] = {}
    for entry in entries:
        event = entry.event
        if event.kind in _NO_BUILDERS:
            continue
        builder = found.setdefault(event.builder, Builder(event.builder, event.time_unix))
        _count(builder, entry)
    for builder in found.values():
        builder.rating = _rating(builder, rules, now_unix)
    return found


def _count(builder: Builder, entry: LedgerEntry) -> None:
    event = entry.event
    builder.since_unix = builder.since_unix or builder.first_unix
    if event.kind is EventKind.BUILT:
        builder.builds += 1
    elif event.kind is EventKind.REFUSED:
        builder.refusals += 1
        builder._refused.append(event.time_unix)
    elif event.kind is EventKind.AGREED:
        builder._counted.add((event.other, event.time_unix // DAY_S))
        builder.agreements = len(builder._counted)
    elif event.kind in FLAGS:
        builder.disagreements += event.kind is EventKind.DISAGREED
        builder.flags[entry.number] = entry
    elif event.kind in RESOLUTIONS:
        builder.flags.pop(event.flag, None)
        if event.kind is EventKind.GUILTY:  # it begins anew
            builder._counted.clear()
            builder.agreements = 0
            builder.since_unix = event.time_unix


def _rating(builder: Builder, rules: Rules, now_unix: float) -> Rating:
    if builder.flags:
        return Rating.FLAGGED
    since = now_unix - rules.refusal_days * DAY_S
    recent = sum(1 for time in builder._refused if time >= since)
    if rules.refusals and recent >= rules.refusals:
        return Rating.NEW
    days = (now_unix - builder.since_unix) / DAY_S
    for rating, step in ((Rating.SPONSOR, rules.sponsor), (Rating.PROVEN, rules.proven)):
        if builder.agreements >= step.agreements and days >= step.days:
            return rating
    return Rating.NEW


def read_rules(path: Path) -> Rules:
    """The rules in a TOML file; what it leaves out is as by default. ConfigError."""
    try:
        raw: dict[str, Any] = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return _DEFAULT
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    base: Mapping[str, Any] = encode(_DEFAULT)
    for name, value in raw.items():
        if isinstance(base.get(name), dict) and isinstance(value, dict):
            raw[name] = {**base[name], **value}
    try:
        return decode(Rules, {**base, **raw})
    except Malformed as error:
        raise ConfigError(f"{path}: {error}", hint=f"its keys are {', '.join(base)}") from error
