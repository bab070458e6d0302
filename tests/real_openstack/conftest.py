# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures of the tests against real OpenStack services; `make test-openstack` runs them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from mock_cloud.cloud.apis import calls
from tests.real_openstack.cloud import RealOpenStack, find_missing, run_openstack
from tests.real_openstack.remotes import OpenStackUser


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Only who asks for them starts services for minutes."""
    if "openstack" not in config.option.markexpr:
        reason = pytest.mark.skip(reason="real OpenStack: run by make test-openstack")
        for item in items:
            if item.get_closest_marker("openstack"):
                item.add_marker(reason)


@pytest.fixture(scope="session")
def real_openstack() -> Iterator[RealOpenStack]:
    missing = find_missing()
    if missing:
        pytest.skip(f"no real OpenStack: {missing}")
    with run_openstack() as cloud:
        yield cloud


@pytest.fixture
def user(
    real_openstack: RealOpenStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[OpenStackUser]:
    """A user of the project "builds", who has nothing left there at the end."""
    for name in [name for name in os.environ if name.startswith("OS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / ".config"))
    (tmp_path / ".config/openstack").mkdir(parents=True)
    monkeypatch.setattr(calls, "_breakers", {})  # each test is a run of its own
    one = OpenStackUser(real_openstack, tmp_path, count())
    one.write_clouds(one.own_clouds())
    yield one
    monkeypatch.setattr(calls, "_breakers", {})
    one.clean_up()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each row of docs/clouds.md."""
    rows: dict[str, list[str]] = {}
    for outcome in ("passed", "failed", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            for name, value in getattr(report, "user_properties", []):
                if name == "row":
                    rows.setdefault(str(value), []).append(outcome)
    for row in sorted(rows):
        terminalreporter.write_line(f"openstack: {row}: {', '.join(sorted(set(rows[row])))}")


@pytest.fixture(autouse=True)
def _row(request: pytest.FixtureRequest) -> None:
    mark = request.node.get_closest_marker("row")
    if mark is not None:
        request.node.user_properties.append(("row", mark.args[0]))
