# SPDX-License-Identifier: GPL-2.0-or-later
"""What is installed for builds in an image, by the names of its distribution."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mock_cloud.images.bake_image import BUILD_NEEDS, build_needs
from tests.unit.attest.attest_builder import manifest


@pytest.mark.parametrize(
    ("installed", "wanted"),
    [
        (("dnf-4.14.0-9.el9.noarch", "dnf5ish-1-1.noarch"), ("dnf", "dnf-plugins-core")),
        (("dnf5-5.2.18.0-1.fc43.x86_64",), ("dnf5", "dnf5-plugins")),
        ((), ("dnf", "dnf-plugins-core")),
    ],
)
def test_both_engines_find_what_they_need(
    installed: tuple[str, ...], wanted: tuple[str, ...]
) -> None:
    base = replace(manifest(), packages=tuple((nevra, "ab" * 32) for nevra in installed))
    assert build_needs(base) == (*BUILD_NEEDS, *wanted)
    assert "python3-rpm" in BUILD_NEEDS
