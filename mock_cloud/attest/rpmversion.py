# SPDX-License-Identifier: GPL-2.0-or-later
"""Which of two package versions is newer, by rpm's rules (rpm-version(7), rpmvercmp)."""

from __future__ import annotations

import re
from itertools import zip_longest

_SEGMENT = re.compile(r"[0-9]+|[a-zA-Z]+|~|\^")


def compare_evr(one: str, other: str) -> int:
    """-1, 0 or 1: ``[epoch:]version-release`` of `one` is older, equal or newer."""
    for left, right in zip(_split(one), _split(other), strict=True):
        order = compare_versions(left, right)
        if order:
            return order
    return 0


def _split(evr: str) -> tuple[str, str, str]:
    epoch, colon, rest = evr.partition(":")
    if not colon:
        epoch, rest = "0", evr
    version, _, release = rest.partition("-")
    return epoch, version, release


def compare_versions(one: str, other: str) -> int:
    """rpmvercmp: segments of digits or letters; ``~`` before the end, ``^`` after it."""
    for left, right in zip_longest(_SEGMENT.findall(one), _SEGMENT.findall(other)):
        order = _compare(left, right)
        if order:
            return order
    return 0


def _compare(left: str | None, right: str | None) -> int:
    if left == right:
        return 0
    for mark, rank in (("~", -1), ("^", 1)):
        if mark in (left, right):
            return _marked(left, right, mark, rank)
    if left is None or right is None:
        return -1 if left is None else 1
    if left.isdigit() != right.isdigit():
        return 1 if left.isdigit() else -1
    if left.isdigit():
        return (int(left) > int(right)) - (int(left) < int(right))
    return (left > right) - (left < right)


def _marked(left: str | None, right: str | None, mark: str, rank: int) -> int:
    """A tilde sorts before anything; a caret after the end, but before any other segment."""
    if mark == "~":
        return rank if left == mark else -rank
    if left == mark:
        return rank if right is None else -rank
    return -rank if left is None else rank
