# SPDX-License-Identifier: GPL-2.0-or-later
"""How long bad builders last under the default rules: years of 100 builders, 10 of them bad.

`python -m tests.ratings_year` writes docs/ratings.svg and prints the table in docs/verify.md. The
ratings, the rules and the draws are the product's own. Made up are the builds: two a day of each
builder, of 20 packages; an audit is a build by another builder who gets work; a trusted third build
tells the day after who was right, the guilty never get work again, and the others are cleared.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mock_cloud.ledger.draws import draw
from mock_cloud.ledger.entries import FIRST, EventKind, LedgerEntry, LedgerEvent
from mock_cloud.ledger.ratings import Rating, Rules, rate
from mock_cloud.model import DAY_S

_BUILDERS: Final = 100
_BUILDS_A_DAY: Final = 2
_PACKAGES: Final = 20
_DAYS: Final = 365
_KINDS: Final = {"always": 3, "rarely (one build in 20)": 2, "only one package of 20": 3,
                 "once it is proven": 2}  # fmt: skip
_COLOURS: Final = ("#c0392b", "#2471a3", "#b7950b", "#7d3c98")
_RULES: Final = Rules()
_WIDTH, _HEIGHT, _LEFT, _TOP = 720, 300, 50, 20


@dataclass
class Simulated:
    """A builder. `caught` is the day on which it was found guilty, `lies` are what it built."""

    name: str
    kind: str = ""
    entries: list[LedgerEntry] = field(default_factory=list)
    rating: Rating = Rating.NEW
    caught: int | None = None
    lies: int = 0
    first_lie: int | None = None
    out_until: int = 0
    flags: int = 0

    def lies_now(self, package: int, chance: random.Random) -> bool:
        if self.kind.startswith("rarely"):
            return chance.random() < 0.05
        if self.kind.startswith("only"):
            return package == 0
        if self.kind.startswith("once"):
            return self.rating is not Rating.NEW
        return self.kind == "always"

    def note(self, kind: EventKind, day: int, other: str = "", flag: int = 0) -> LedgerEntry:
        number = len(self.entries) + 1
        event = LedgerEvent(kind, self.name, day * DAY_S, job=f"{self.name}-{number}",
                            other=other, flag=flag)  # fmt: skip
        entry = LedgerEntry(number, FIRST, event)
        if kind is not EventKind.BUILT:
            self.entries.append(entry)
        return entry


def simulate(seed: int) -> list[Simulated]:
    """One year; the same each time."""
    chance = random.Random(seed)  # noqa: S311  a simulation
    secret = seed.to_bytes(32, "big")
    kinds = [kind for kind, count in _KINDS.items() for _ in range(count)]
    builders = [Simulated(f"host:{number}", kind)
                for number, kind in enumerate(kinds + [""] * (_BUILDERS - len(kinds)))]  # fmt: skip
    for one in builders:
        one.note(EventKind.BUILT, 0)
    count = 0
    for day in range(1, _DAYS + 1):
        for one in builders:
            found = rate(one.entries, _RULES, day * DAY_S).get(one.name)
            one.rating = Rating.NEW if found is None else found.rating
        working = [one for one in builders if one.caught is None and one.out_until < day]
        for one in working:
            for _ in range(_BUILDS_A_DAY):
                if one.out_until >= day:
                    break
                count += 1
                _build(one, working, day, f"{seed}-{count}", secret, chance)
    return builders


def _build(
    one: Simulated, working: Sequence[Simulated], day: int, job: str, secret: bytes,
    chance: random.Random,
) -> None:  # fmt: skip
    package = chance.randrange(_PACKAGES)
    is_lie = one.lies_now(package, chance)
    if is_lie:
        one.lies += 1
        one.first_lie = one.first_lie or day
    built = LedgerEntry(1, FIRST, LedgerEvent(EventKind.BUILT, one.name, day * DAY_S, job=job))
    if not draw(secret, built, _RULES.audits.of(one.rating)).is_audited:
        return
    other = chance.choice([who for who in working if who is not one and who.out_until < day])
    is_others_lie = other.lies_now(package, chance)
    if not (is_lie or is_others_lie):
        one.note(EventKind.AGREED, day, other.name)
        other.note(EventKind.AGREED, day, one.name)
        return
    for who, is_guilty in ((one, is_lie), (other, is_others_lie)):
        who.flags += 1
        flag = who.note(EventKind.DISAGREED, day, "")
        outcome = EventKind.GUILTY if is_guilty else EventKind.CLEARED
        who.note(outcome, day + 1, flag=flag.number)
        who.out_until = day + 1
        if is_guilty and who.caught is None:
            who.caught = day


def survivors(found: Sequence[Simulated], day: int) -> float:
    """The share that was not caught by the end of the day, counted from its first lie."""

    def lasted(one: Simulated) -> int:
        return _DAYS if one.caught is None else one.caught - (one.first_lie or one.caught)

    return sum(lasted(one) > day for one in found) / len(found)


def plot(groups: dict[str, list[Simulated]]) -> str:
    """SVG: the share of each kind that is left, by days since its first lie."""
    days = 30
    width, height = _WIDTH - _LEFT - 10, _HEIGHT - _TOP - 50
    bottom = _TOP + height
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="12">'
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>'
    ]
    for percent in range(0, 101, 20):
        y = _TOP + height * (1 - percent / 100)
        parts.append(f'<path d="M{_LEFT} {y:.1f}h{width}" stroke="#ddd"/>')
        parts.append(_text(_LEFT - 6, y + 4, f"{percent} %", "end"))
    parts += [
        _text(_LEFT + width * day / days, bottom + 16, str(day)) for day in range(0, days + 1, 5)
    ]
    said = "days since the first lie: share of bad builders that still get work"
    parts.append(_text(_LEFT + width / 2, bottom + 34, said))
    for number, (kind, found) in enumerate(groups.items()):
        points = " ".join(
            f"{_LEFT + width * day / days:.1f},{_TOP + height * (1 - survivors(found, day)):.1f}"
            for day in range(days + 1)
        )
        colour = _COLOURS[number]
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        parts.append(_text(_LEFT + width - 10, _TOP + 16 * (number + 1), kind, "end", colour))
    return "\n".join([*parts, "</svg>\n"])


def _text(x: float, y: float, text: str, anchor: str = "middle", colour: str = "#333") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{text}</text>'


def table(groups: dict[str, list[Simulated]], honest: Sequence[Simulated]) -> str:
    """Markdown."""
    lines = [
        "| it lies | builders | caught | days since its first lie: median, most |"
        " lies built: median, most |",
        "|---|---|---|---|---|",
    ]
    for kind, found in groups.items():
        caught = [one for one in found if one.caught is not None]
        days = [one.caught - (one.first_lie or one.caught) for one in caught
                if one.caught is not None] or [0]  # fmt: skip
        lies = [one.lies for one in found]
        lines.append(
            f"| {kind} | {len(found)} | {len(caught)} | {statistics.median(days):g}, {max(days)} |"
            f" {statistics.median(lies):g}, {max(lies)} |"
        )
    flagged = sum(one.flags > 0 for one in honest)
    guilty = sum(one.caught is not None for one in honest)
    lines.append(
        f"\nOf {len(honest)} honest ones {flagged} were flagged for a day, beside a liar,"
        f" and {guilty} were found guilty."
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Years of 100 builders under the default rules.")
    parser.add_argument("--years", type=int, default=10)
    parser.add_argument("--output", type=Path, default=Path("docs/ratings.svg"))
    arguments = parser.parse_args()
    found = [one for year in range(arguments.years) for one in simulate(year)]
    groups = {kind: [one for one in found if one.kind == kind] for kind in _KINDS}
    arguments.output.write_text(plot(groups))
    print(table(groups, [one for one in found if not one.kind]))


if __name__ == "__main__":
    main()
