# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures of the tests with a real Koji; `make test-koji` runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.lab.clouds.ec2 import Ec2Cloud
from tests.real_koji import programs
from tests.real_koji.builders import Builder
from tests.real_koji.system import RealKoji, run_koji


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Only who asks for them starts services for minutes."""
    if "koji" not in config.option.markexpr:
        reason = pytest.mark.skip(reason="a real Koji: run by make test-koji")
        for item in items:
            if item.get_closest_marker("koji"):
                item.add_marker(reason)


@pytest.fixture(scope="session")
def running(request: pytest.FixtureRequest) -> Iterator[RealKoji]:
    missing = programs.find_missing()
    if missing:
        pytest.skip(f"no Koji: {missing}")
    cloud: Ec2Cloud = request.getfixturevalue("ec2_cloud")
    with run_koji(cloud) as koji:
        yield koji
        koji.expect_no_node()
        assert cloud.listing().instances == ()


@pytest.fixture
def koji(running: RealKoji) -> Iterator[RealKoji]:
    """Koji without a node, all of its builders enabled."""
    yield running
    running.enable(*running.builders)
    running.expect_no_node()


@pytest.fixture
def spare(koji: RealKoji) -> Iterator[Builder]:
    """A builder of the test's own, which it may stop and start; all tasks go to it."""
    name = f"spare{len(koji.api.listHosts())}.lab"
    koji.add_hosts(name)
    builder = koji.start_builder(name)
    koji.only(name)
    yield builder
    koji.release()
    koji.koji("disable-host", name)
    koji.builders.pop(name).stop()


@pytest.fixture
def say(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Prints a line at the end of the run."""
    return lambda text: record_property("said", text)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            for name, value in getattr(report, "user_properties", []):
                if name == "said":
                    terminalreporter.write_line(f"koji: {value}")
