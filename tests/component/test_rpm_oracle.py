# SPDX-License-Identifier: GPL-2.0-or-later
"""Each package of the lab, and each header of its node's database, read as rpm reads it."""

from __future__ import annotations

import pytest

from mock_cloud.agent.measure.headers import iter_headers
from mock_cloud.wire.rpmheader import split
from tests.lab.layout import Lab
from tests.unit.agent_rpm import oracle

pytestmark = pytest.mark.lab


def test_the_labs_packages(lab: Lab) -> None:
    rpm = oracle.import_rpm()
    paths = sorted(lab.release(1).rglob("*.rpm"))
    assert paths
    for path in paths:
        oracle.check_package(rpm, path)


def test_the_headers_of_a_node(lab: Lab) -> None:
    rpm = oracle.import_rpm()
    blobs = list(iter_headers(str(lab.tree)))
    assert blobs
    for blob in blobs:
        oracle.check_facts(rpm, split(blob).region, rpm.hdr(blob))
