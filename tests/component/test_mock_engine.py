# SPDX-License-Identifier: GPL-2.0-or-later
"""Jobs of the mock engine in a lab node: real mock, sent as a kit, under the node's python."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.component.engine_node import why_no_lab
from tests.component.mock_engine import MockSite, mock_site
from tests.lab.layout import default_lab

LAB = default_lab()
pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(bool(why_no_lab(LAB)), reason=why_no_lab(LAB) or "-"),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MockSite]:
    with mock_site(LAB, tmp_path_factory.mktemp("mock")) as site:
        yield site


def test_a_package_is_built_by_mock(site: MockSite) -> None:
    build = "id -un; test $(grep -c : /proc/net/dev) = 1"
    ended = site.rebuild(site.source("plain", head="BuildRequires: make", build=build))
    assert ended.exit == 0, ended.stderr
    assert ended.results() == [
        "build.log",
        "hw_info.log",
        "installed_pkgs.log",
        "plain-1.0-1.lab1.noarch.rpm",
        "plain-1.0-1.lab1.src.rpm",
        "root.log",
        "state.log",
    ]
    assert "\nmockbuild\n" in ended.log("build.log")
    assert "Start(plain-1.0-1.lab1.src.rpm)  Config(lab-1-x86_64)" in ended.stderr
    assert "Results and/or logs in: /home/user/result\n" in ended.stderr
    assert "mock.py version" not in ended.stderr
    assert "/run/mock-cloud" not in ended.stderr
