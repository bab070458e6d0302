# SPDX-License-Identifier: GPL-2.0-or-later
"""A pytest plugin for several runs in one terminal: whole lines, as soon as there is news.

`--progress NAME` prints a line for each file of tests, and for each failure, with NAME before it,
instead of dots; and now and then one where a file takes long.
"""

from __future__ import annotations

import time
from collections import Counter

import pytest

_LONGEST_S = 20.0


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--progress", metavar="NAME", help="a line for each file, with NAME before it")


def pytest_configure(config: pytest.Config) -> None:
    name = config.getoption("--progress")
    if name:
        config.pluginmanager.register(_Progress(name))


class _Progress:
    def __init__(self, name: str) -> None:
        self._name = name
        self._said_s = self._file_s = time.monotonic()
        self._sum_s = 0.0
        self._total = self._ended = 0
        self._outcomes: Counter[str] = Counter()
        self._file = ""

    def _say(self, text: str) -> None:
        self._said_s = time.monotonic()
        print(f"{self._name}: {100 * self._ended // max(self._total, 1):3}% {text}", flush=True)

    def _end_file(self) -> None:
        if self._file:
            counts = ", ".join(f"{number} {word}" for word, number in self._outcomes.items())
            self._say(f"{self._file}: {counts}, {time.monotonic() - self._file_s:.1f} s")
        self._outcomes.clear()
        self._file_s = time.monotonic()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._total = len(session.items)
        self._say(f"{self._total} tests")

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        # As pytest's own, without the letters.
        if report.passed:
            return ("passed" if report.when == "call" else "", "", "")
        if report.failed:
            return ("failed" if report.when == "call" else "error", "", "")
        return ("skipped", "", "")

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        file = nodeid.partition("::")[0]
        if file != self._file:
            self._end_file()
            self._file = file
        elif time.monotonic() - self._said_s > _LONGEST_S:
            self._say(nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._sum_s += report.duration
        if report.when == "call" or not report.passed:
            self._outcomes[report.outcome] += 1
        if report.failed:
            self._say(f"FAILED {report.nodeid} ({report.when})")

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._ended += 1

    def pytest_sessionfinish(self) -> None:
        self._end_file()
        self._say(f"the sum of the tests' times: {self._sum_s:.0f} s")
