# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures of attacks on a node, for `pytest_plugins`, after tests.component.cloud_fixtures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mock_cloud.attest.validity import verify_manifest
from mock_cloud.model import Toolkit
from mock_cloud.settings import AttestSettings
from mock_cloud.steps.attest.known_good_sets import KnownGood, read_package_keys, read_public_key
from tests.attack.attacked_node import AttackedNode
from tests.component.cloud_nodes import Site
from tests.lab.layout import Lab


@pytest.fixture
def attacked(
    site: Site, packed_toolkit: Toolkit, lab: Lab, tmp_path: Path
) -> Iterator[AttackedNode]:
    """A new node, which is destroyed afterwards."""
    settings = AttestSettings(lab.manifest, (lab.manifest_key,), (lab.package_key,))
    manifest_keys = [read_public_key(lab.manifest_key)]
    manifest = verify_manifest(lab.manifest.read_bytes(), manifest_keys).manifest
    known = KnownGood(manifest, read_package_keys(settings.package_keys))
    with site.acquire() as leased:
        try:
            yield AttackedNode(site, leased, packed_toolkit, known, tmp_path)
        finally:
            leased.destroy()
