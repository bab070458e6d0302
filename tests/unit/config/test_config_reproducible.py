# SPDX-License-Identifier: GPL-2.0-or-later
"""[build] reproducible: what is added to a configuration, and what is left as it says."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from mock_cloud.config.defaults import default_config_opts
from mock_cloud.config.overrides import make_reproducible


@pytest.fixture
def opts() -> Any:
    return default_config_opts()


def test_times_host_and_locale_are_fixed(opts: Any) -> None:
    opts["macros"]["%_buildhost"] = socket.getfqdn()  # as mock fills it in
    make_reproducible(opts)
    assert opts["macros"]["%use_source_date_epoch_as_buildtime"] == "1"
    assert opts["macros"]["%_buildhost"] == "reproducible"
    assert opts["macros"]["%_topdir"] == "/builddir/build"
    assert opts["environment"]["TZ"] == "UTC"
    assert opts["environment"]["HOME"] == "/builddir"


def test_what_the_configuration_says_stays(opts: Any) -> None:
    opts["macros"].update({"%_buildhost": "builder.example", "%build_mtime_policy": "none"})
    make_reproducible(opts)
    assert opts["macros"]["%_buildhost"] == "builder.example"
    assert opts["macros"]["%build_mtime_policy"] == "none"
