# SPDX-License-Identifier: GPL-2.0-or-later
"""Fuzzing of all parsers, for as long as wanted: python -m tests.fuzz.run --minutes N."""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback
from collections import Counter

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.fuzz.grammar import spoilt_bytes, spoilt_json, spoilt_line
from tests.fuzz.parsers import PARSERS, Parser

FUZZING = settings(
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate, Phase.shrink),
)


def try_one(parser: Parser, data: st.DataObject) -> None:
    """One spoilt input. Anything but what the parser may raise comes through."""
    as_json = not isinstance(parser.seed, bytes) and data.draw(st.integers(0, 4)) > 0
    if as_json:
        text = spoilt_json(data.draw, parser.seed)
    elif parser.by_lines and data.draw(st.booleans()):
        text = spoilt_line(data.draw, parser.seed_bytes)
    else:
        text = spoilt_bytes(data.draw, parser.seed_bytes)
    try:
        parser.parse(text)
    except parser.errors as error:
        # It ends on a terminal and in a log: neither takes a lone surrogate, and nobody an escape.
        shown = str(error).encode()
        assert b"\x1b" not in shown, shown


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("names", nargs="*", help="parsers (default: all)")
    options = parser.parse_args()
    until = time.monotonic() + 60 * options.minutes
    chance = random.Random(options.seed)  # noqa: S311 - no secret
    names, tried, failed = options.names or sorted(PARSERS), Counter[str](), set[str]()
    while time.monotonic() < until and len(failed) < len(names):
        for name in names:
            if name not in failed and time.monotonic() < until:
                number = chance.getrandbits(64)
                try:
                    _round(name, number, tried)
                except Exception:
                    failed.add(name)
                    print(f"== {name}, seed {number}\n{traceback.format_exc()[-3000:]}", flush=True)
    for name in names:
        print(f"{name:16} {tried[name]:9,} inputs{'   FAILED' if name in failed else ''}")
    return 1 if failed else 0


def _round(name: str, number: int, tried: Counter[str]) -> None:
    @seed(number)
    @settings(FUZZING, max_examples=400)
    @given(st.data())
    def fuzz(data: st.DataObject) -> None:
        tried[name] += 1
        try_one(PARSERS[name], data)

    fuzz()


if __name__ == "__main__":
    sys.exit(main())
