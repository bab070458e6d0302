# SPDX-License-Identifier: GPL-2.0-or-later
"""What a look at a machine or at a cloud found, for `mock-cloud doctor` and `setup`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mock_cloud.errors import MockCloudError


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `mend` says how to mend it; with `ok`, what will be to mend soon."""

    what: str
    ok: bool
    found: str
    mend: str = ""


def look(what: str, ask: Callable[[], str]) -> Finding:
    """What `ask` says of `what`; its failure, if it is one of ours, with the hint."""
    try:
        return Finding(what, True, ask())
    except MockCloudError as error:
        return Finding(what, False, error.message, error.hint or "")
