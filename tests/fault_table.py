# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/faults.md: what befalls a build, what has to come of it, what came of it in which test.

A test says which faults it provokes by ``@pytest.mark.fault(18, …)``. Shown of it is what its
last command said at its end, or what it gave to `saw`. `make faults` runs them all, and those that
`seen_lines` names for a second table.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Generator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.seen_lines import SEEN, TESTS

_ROOT: Final = Path(__file__).parents[1]
_DOCUMENT: Final = _ROOT / "docs/faults.md"
_SEEN: Final = _ROOT / ".lab/faults.json"
_BEGIN: Final = "<!-- faults: written by `make faults` -->\n"
_END: Final = "<!-- end of faults -->\n"
_LINES_BEGIN: Final = "<!-- lines: written by `make faults` -->\n"
_LINES_END: Final = "<!-- end of lines -->\n"
_SAID: Final = re.compile(r"^(?:ERROR|CRITICAL|WARNING): (.*)$", re.MULTILINE)
_LONGEST: Final = 200

FAULTS: Final = {
    1: ("wrong credentials", "refused at once; where they came from is named"),
    2: ("a token that ends under a build", "the build goes on; it is read anew to end the node"),
    3: ("throttling", "waits longer each time, and says so"),
    4: ("502, or HTML, from an API", "reads are repeated; orders only with a token"),
    5: ("an order without an answer", "the same token; what was made is adopted"),
    6: ("a duplicate is found", "the oldest is kept, the others end"),
    7: ("no capacity", "other size, zone, market, as configured"),
    8: ("a quota", "it is named, and not asked for again"),
    9: ("an instance ends while it boots", "the wait stops at once, with the reason"),
    10: ("it boots, and no sshd answers", "its console is shown; replaced once"),
    11: ("cloud-init fails", "its log is shown"),
    12: ("another host key, another system", "nothing is sent; destroyed; 77"),
    13: ("login refused while it boots", "tried again until the deadline"),
    14: ("no DNS", "nodes are reached by the API's address"),
    15: ("IPv6 only", "works"),
    16: ("a jump host", "as ssh_config says; one that is down is named"),
    17: ("a security group for another address", "said so"),
    18: ("reset while sources go", "goes on at the verified offset"),
    19: ("reset while logs come", "no gap, no duplicate"),
    20: ("a half-open line", "noticed in [build] silence_timeout, 30 s"),
    21: ("the laptop sleeps", "the build goes on, and is reached again"),
    22: ("kill -9 of the controller", "taken up again, or the node ends by itself"),
    23: ("Ctrl-C; a second one; on a dead line", "cancelled, logs kept; the second detaches"),
    24: ("two commands, one chroot", "the lease decides; the second is told who has it"),
    25: ("a spot node is taken back", "logs kept, the reason shown, the next on demand"),
    26: ("killed for memory", "said so, with what to try"),
    27: ("the node's disk is full", "not a failed build: 75"),
    28: ("the resultdir's disk is full", "results wait on the node; attach fetches them"),
    29: ("half-written results", "never published"),
    30: ("a bit flips on the way", "fetched again, never published"),
    31: ("clocks differ; a clock is set by a day", "no build and no node ends with it"),
    32: ("a mirror is down or stale", "retried; not a failed build: 30, as dnf says it"),
    33: ("a chroot's base layer is damaged", "its digest is looked at: refused, or made anew"),
    34: ("versions differ between both sides", "the agent's is pushed; another is refused"),
    35: ("an architecture that cannot be had", "fails before anything is spent"),
    36: ("a build hangs silently", "ended by its node, with what ran"),
    37: ("ending a node fails", "in the journal, tried again, swept"),
    38: ("volume, address, key outlive a node", "found by their tags, and ended"),
    39: ("a sweep sees others' or busy nodes", "never ended"),
    40: ("the budget is spent", "kept to by the node's own timers, too"),
    41: ("the cloud is out", "not asked any more in this command"),
    42: ("rpmbuild fails", "mock's exit code and logs; never repeated"),
}  # fmt: skip

_notes: list[str] = []
_rows: dict[str, dict[str, list[str]]] = {}
"""By number or name of the fault, then by test: its outcome, and at the end what was seen."""


def saw(what: object) -> None:
    """Show this of the test in place of its last command's end."""
    _notes.append(str(what))


def saw_end(code: int, text: str) -> None:
    """A command ended so, and printed this."""
    said = _SAID.findall(text)
    _notes.append(f"{code}: {said[-1]}" if said else f"{code}")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What provokes a line of `seen_lines` is chosen by the same mark."""
    for item in items:
        if _lines_of(item):
            item.add_marker(pytest.mark.fault())


def _lines_of(item: pytest.Item) -> set[str]:
    path = item.path.relative_to(_ROOT) if item.path.is_relative_to(_ROOT) else item.path
    return TESTS.get(f"{path}::{item.name.partition('[')[0]}", set())


def pytest_runtest_setup() -> None:
    _notes.clear()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Note what became of each test that provokes a fault."""
    outcome = yield
    report = outcome.get_result()
    numbers = {str(number) for mark in item.iter_markers("fault") for number in mark.args}
    numbers |= _lines_of(item)
    if report.when == "call" or (numbers and report.outcome != "passed"):
        seen = next((note for note in reversed(_notes) if ": " in note), "".join(_notes[-1:]))
        test = f"{item.path.name}::{item.name.partition('[')[0]}"
        for number in numbers:
            tests = _rows.setdefault(number, {})
            if tests.get(test, ["passed"])[0] == "passed":  # of all its cases
                tests[test] = [report.outcome, _shown(seen)]


def pytest_sessionfinish() -> None:
    """Add to what was seen before, and write the tables, if `make faults` asks for it.

    MOCK_CLOUD_WRITE_FAULTS=lines: the second one alone.
    """
    wanted = os.environ.get("MOCK_CLOUD_WRITE_FAULTS")
    if not wanted:
        return
    seen: dict[str, dict[str, list[str]]] = {}
    if _SEEN.exists():
        seen = json.loads(_SEEN.read_text())
    for number, tests in _rows.items():
        seen.setdefault(number, {}).update(tests)
    _SEEN.write_text(json.dumps(seen))
    lines = ["| | fault | expected | seen | test |", "|---|---|---|---|---|"]
    for number, (fault, expected) in FAULTS.items():
        shown, names = _came_of(seen.get(str(number), {}))
        lines.append(f"| {number} | {fault} | {expected} | {shown} | {names} |")
    if wanted != "lines":
        _write(_BEGIN, lines, _END)
    lines = ["| seen then | expected | seen now | test |", "|---|---|---|---|"]
    for name, (then, expected, tests) in SEEN.items():
        came = seen.get(name, {})
        for test in tests:  # one that was not run is named
            came.setdefault(Path(test).name, ["not run", ""])
        shown, names = _came_of(came)
        lines.append(f"| {then} | {expected} | {shown} | {names} |")
    _write(_LINES_BEGIN, lines, _LINES_END)


def _came_of(tests: dict[str, list[str]]) -> tuple[str, str]:
    """Two cells: what was seen, and the tests; what did not pass is in bold."""
    passed = [name for name, (outcome, _) in tests.items() if outcome == "passed"]
    failed = [f"**{outcome}**: {name}" for name, (outcome, _) in tests.items()
              if outcome != "passed"]  # fmt: skip
    shown = next((tests[name][1] for name in passed if tests[name][1]), "as expected")
    return shown if passed else "", "<br>".join((*passed, *failed)) or "**not run**"


def _write(begin: str, lines: list[str], end: str) -> None:
    before, begins, rest = _DOCUMENT.read_text().partition(begin)
    _old, ends, after = rest.partition(end)
    assert begins and ends, f"{_DOCUMENT} has no place for a table"
    _DOCUMENT.write_text(f"{before}{begin}\n" + "\n".join(lines) + f"\n\n{end}{after}")


def _shown(text: str) -> str:
    """One cell, without what differs from run to run: paths, addresses, names."""
    text = re.sub(r"/\S*/(\S+)", r"…/\1", " ".join(text.split()).replace("|", "\\|"))
    text = re.sub(r"\S*\b\d+\.\d+\.\d+\.\d+\S*?(?=[:;,]? |$)", "…", text)
    text = re.sub(r"\b[0-9a-f-]{8,}\b|\b\d\d:\d\d\b", "…", text)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
