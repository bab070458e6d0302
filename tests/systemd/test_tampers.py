# SPDX-License-Identifier: GPL-2.0-or-later
"""What systemd brings to the tamper catalogue, done for real on a machine: each is refused.

All of a kind are there at once, since a verdict names every reason; afterwards, with all of it
taken back, the machine is trusted again, so that nothing else was the reason.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from mock_cloud.errors import Reason
from tests.systemd.fleet import FleetNode
from tests.systemd.tampers import FILES, MADE, RUNNING, Tamper

pytestmark = [pytest.mark.lab, pytest.mark.slow]
_DOCUMENT = Path(__file__).parents[2] / "docs/systemd.md"
_BEGIN = "<!-- tampers: written by `make test-systemd` -->\n"
_END = "<!-- end of tampers -->\n"
_UNDO_DIRECTORIES = f"if [ -e {MADE} ]; then tac {MADE} | xargs -r rmdir; rm {MADE}; fi"


@contextmanager
def tampered(machine: FleetNode, tampers: Sequence[Tamper]) -> Iterator[None]:
    """All of `tampers` done, and undone in the end, the last one first."""
    try:
        machine.do("\n".join(["set -e", *(one.script for one in tampers)]))
        yield
    finally:
        machine.do("\n".join([*(one.undo for one in reversed(tampers)), _UNDO_DIRECTORIES]))


def missed(tampers: Sequence[Tamper], reasons: Sequence[Reason]) -> list[str]:
    """Those that no reason is about."""
    return [
        f"{one.what}: {one.code} {one.subject}"
        for one in tampers
        if not any(one.code == found.code and one.subject in found.subject for found in reasons)
    ]


@pytest.mark.parametrize("tampers", [FILES, RUNNING], ids=["files", "running"])
def test_each_is_refused_with_its_code(machine: FleetNode, tampers: Sequence[Tamper]) -> None:
    with tampered(machine, tampers):
        reasons = machine.refusals()
    assert not missed(tampers, reasons)
    assert not machine.refusals(), "and trusted again"
    if os.environ.get("MOCK_CLOUD_WRITE_SYSTEMD"):
        _write(tampers)


def _write(tampers: Sequence[Tamper]) -> None:
    """Add the rows of `tampers` to the document's table, in place of those that it had."""
    before, begin, rest = _DOCUMENT.read_text().partition(_BEGIN)
    table, end, after = rest.partition(_END)
    assert begin and end, f"{_DOCUMENT} has no place for the table"
    rows = {f"| {one.number} | {one.what} | `{one.code}` |" for one in tampers}
    rows |= {line for line in table.splitlines() if line.startswith("| ") and line[2].isdigit()}
    head = ["", "| number | done by root on the machine | refused with |", "|---|---|---|"]
    ordered = sorted(rows, key=lambda row: (int(row.split("|")[1]), row))
    text = "\n".join([*head, *ordered, "", ""])
    _DOCUMENT.write_text(f"{before}{begin}{text}{end}{after}")
