# SPDX-License-Identifier: GPL-2.0-or-later
"""Root on a node before the verdict, who leaves something to be found by a build."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from tests.attack.attacked_node import AttackedNode
from tests.attack.node_tampers import FILES, HOPPER, RUNNING, Tamper

pytest_plugins = ["tests.component.cloud_fixtures", "tests.attack.attacked_fixtures"]
FROM = "node before the verdict"
Test = Callable[[AttackedNode], None]
_UNDO = (
    "cd /var/cache/mock; [ -e pids ] && kill -9 $(cat pids) 2>/dev/null;"
    " [ -e made ] && rm -rf $(tac made); rm -f made pids; true"
)


def each(tampers: Sequence[Tamper]) -> Callable[[Test], Test]:
    """Marks a test as one of each of them."""

    def mark(test: Test) -> Test:
        for one in reversed(tampers):
            test = pytest.mark.attack(FROM, one.what, "refused")(test)
        return test

    return mark


@contextmanager
def tampered(attacked: AttackedNode, tampers: Sequence[Tamper]) -> Iterator[None]:
    try:
        attacked.do("\n".join(["set -e", *(one.script for one in tampers), "sleep 0.3"]))
        yield
    finally:
        attacked.do("\n".join([*(one.undo for one in reversed(tampers)), _UNDO]))


def missed(tampers: Sequence[Tamper], found: dict[str, set[str]]) -> list[str]:
    """Those that no reason is about."""
    return [
        f"{one.what}: {one.code} {one.subject!a}"
        for one in tampers
        if not any(
            one.subject in subject
            for code, subjects in found.items()
            if code == one.code or code.startswith(f"{one.code}.")
            for subject in subjects
        )
    ]


def check(attacked: AttackedNode, tampers: Sequence[Tamper]) -> None:
    with tampered(attacked, tampers):
        found = attacked.refusals()
    assert not missed(tampers, found), found
    attacked.attest()  # so that nothing else was the reason


@each(FILES)
def test_files(attacked: AttackedNode) -> None:
    check(attacked, FILES)


@each(RUNNING)
def test_what_runs(attacked: AttackedNode) -> None:
    check(attacked, RUNNING)


@each([HOPPER])
def test_a_process_that_does_not_stand_still(attacked: AttackedNode) -> None:
    """It is seen, if there was time to look at one of them; if not, that is a reason, too."""
    with tampered(attacked, [HOPPER]):
        found = attacked.refusals()
    assert not missed([HOPPER], found) or "/proc" in found["file.unreadable"], found
    attacked.attest()
