# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures of the tests of mimic's APIs; named in their `pytest_plugins`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.component.openstack_parts import Mimic, run_mimic


@pytest.fixture(scope="module")
def mimic_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mimic]:
    pytest.importorskip("mimic", reason="mimic is not installed")
    with run_mimic(tmp_path_factory.mktemp("mimic")) as server:
        yield server


@pytest.fixture
def mimic(mimic_server: Mimic) -> Iterator[Mimic]:
    """The module's, which was asked nothing yet and answers as it should."""
    mimic_server.proxy.calls.clear()
    yield mimic_server
    mimic_server.network.floating.clear()
    mimic_server.proxy.faults.clear()
