# SPDX-License-Identifier: GPL-2.0-or-later
"""What scratch builds spared the remotes that build what succeeds again."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from mock_cloud.ledger.entries import EventKind, LedgerEntry, LedgerEvent
from mock_cloud.wire.dataclass import dataclass

_REMOTE: Final = "remote:"
"""Before a remote's name where builders' names stand."""
_SAID: Final = re.compile(r"(built|failed) after ([0-9]{1,9}) s")


@dataclass(slots=True)
class Savings:
    """The scratch builds on `scratch` before those on `then`; `failed_s`: how long failures took.

    What failed cost `then` nothing.
    """

    scratch: str
    then: str
    builds: int = 0
    failed: int = 0
    failed_s: int = 0


def note_scratch(
    scratch: str, then: str, seconds: float, now_unix: int, *, has_failed: bool
) -> LedgerEvent:
    """The event that says how the build on the remote `scratch` ended, before one on `then`."""
    reason = f"{'failed' if has_failed else 'built'} after {seconds:.0f} s"
    return LedgerEvent(
        EventKind.SCRATCH, f"{_REMOTE}{scratch}", now_unix, other=f"{_REMOTE}{then}", reason=reason
    )


def sum_savings(entries: Iterable[LedgerEntry]) -> list[Savings]:
    """Of each pair of remotes, in the order of their first builds."""
    found: dict[tuple[str, str], Savings] = {}
    for entry in entries:
        event = entry.event
        said = _SAID.fullmatch(event.reason)
        if event.kind is not EventKind.SCRATCH or said is None:
            continue
        pair = (event.builder.removeprefix(_REMOTE), event.other.removeprefix(_REMOTE))
        one = found.setdefault(pair, Savings(*pair))
        one.builds += 1
        if said[1] == "failed":
            one.failed += 1
            one.failed_s += int(said[2])
    return list(found.values())
