# SPDX-License-Identifier: GPL-2.0-or-later
"""How dnf is called: a real dnf5 takes these command lines in tests/systemd."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from mock_cloud.agent.engine import packages
from mock_cloud.agent.engine.packages import PackageManager
from mock_cloud.config.defaults import default_config_opts
from mock_cloud.wire.job_request import NO_ALLOWERASING, EngineConfig


def manager(monkeypatch: pytest.MonkeyPatch, program: str) -> PackageManager:
    monkeypatch.setattr(packages, "_find_program", lambda name: f"/nowhere/{program}")
    config = EngineConfig(
        "r", "r", "x86_64", "x86_64", program, "", [],
        dnf_common_opts=["--setopt=deltarpm=False", "--allowerasing"],
    )  # fmt: skip
    chroot: Any = SimpleNamespace(root="/chroot")
    unused: Any = None
    return PackageManager(config, chroot, unused, unused, "/keys")


@pytest.mark.parametrize("verb", ["install", "builddep", "update", *NO_ALLOWERASING])
def test_dnf5_is_told_no_option_that_a_command_does_not_know(
    monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    argv = manager(monkeypatch, "dnf5").invocation([verb, "foo"])
    assert ("--allowerasing" in argv) == (verb not in NO_ALLOWERASING)
    assert argv.index("foo") < argv.index("--setopt=deltarpm=False")


def test_dnf4_is_told_the_options_first(monkeypatch: pytest.MonkeyPatch) -> None:
    argv = manager(monkeypatch, "dnf4").invocation(["makecache"])
    assert argv[-1] == "makecache" and "--allowerasing" in argv


def test_which_those_are_is_what_mock_has() -> None:
    opts = default_config_opts()
    assert opts["dnf5_avoid_opts"] == {verb: ["--allowerasing"] for verb in NO_ALLOWERASING}
