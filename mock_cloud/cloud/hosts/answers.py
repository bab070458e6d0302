# SPDX-License-Identifier: GPL-2.0-or-later
"""What the scripts of a claim answer, parsed: hostile text, a few short lines."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from mock_cloud.wire.terminal_text import printable

ANSWER_MAX_BYTES: Final = 8192
_LINE_MAX: Final = 300
_LEASE: Final = re.compile(r"[0-9a-f]{1,64}")


class AnswerError(ValueError):
    """The host said something else than a claim's script says."""


@dataclass(frozen=True, slots=True)
class Free:
    """Nobody has a claim on the host."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A lease has a claim on the host, for `left_s` seconds more unless it is given back."""

    lease: str
    owner: str
    remote: str
    left_s: int


@dataclass(frozen=True, slots=True)
class Unfit:
    """The host cannot be used; `why` is its own word, made printable."""

    why: str


Answer = Free | Taken | Unfit


def parse_answer(data: bytes) -> Answer:
    """The answer in a script's output. What its owner's shell prints before is passed over.

    AnswerError.
    """
    text = data.decode(errors="backslashreplace")
    lines = [printable(line.strip())[:_LINE_MAX] for line in text.splitlines()]
    for index in range(len(lines) - 1, -1, -1):
        word, rest = lines[index], lines[index + 1 :]
        if word == "free" and not rest:
            return Free()
        if word == "refused" and len(rest) == 1:
            return Unfit(rest[0])
        if word in ("taken", "claimed") and len(rest) == 4:
            return _taken(*rest)
    raise AnswerError(f"no answer of ours: {' | '.join(lines[-3:]) or 'nothing'}")


def _taken(lease: str, owner: str, remote: str, left_s: str) -> Taken:
    if not _LEASE.fullmatch(lease) or not re.fullmatch(r"\d{1,9}", left_s):
        raise AnswerError("its claim is not one of ours")
    return Taken(lease, owner, remote, int(left_s))
