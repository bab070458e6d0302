# SPDX-License-Identifier: GPL-2.0-or-later
"""What mock's plugin hands over becomes the configuration that mock had, or an error."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mock_cloud.errors import ConfigError
from mock_cloud.launcher.handed_over import parse_handover

OPTIONS: dict[str, Any] = {
    "root": "x-{{ target_arch }}-1",
    "target_arch": "x86_64",
    "host_arch": "x86_64",
    "legal_host_arches": ["x86_64"],
    "forcearch": None,
    "macros": {"%dist": ".x"},
    "plugin_conf": {"hw_info_enable": False},
    "dnf.conf": "[main]\n",
}


def handed(**changes: Any) -> bytes:
    found: dict[str, Any] = {"version": 2, "remote": "ec2", "mode": "rebuild"}
    found |= {"argv": ["x.src.rpm"], "mock": ["/usr/libexec/mock/mock", "/usr/bin/python3"]}
    return json.dumps({**found, "config_opts": OPTIONS, **changes}).encode()


def test_mocks_options_are_the_only_ones() -> None:
    handover = parse_handover(handed())
    assert (handover.remote, handover.mode, handover.argv) == ("ec2", "rebuild", ("x.src.rpm",))
    assert (handover.script.name, handover.python.name) == ("mock", "python3")
    opts = handover.opts
    assert opts["root"] == "x-x86_64-1"
    assert opts["yum.conf"] == opts["dnf.conf"] == "[main]\n"  # mock's other names work
    assert {name for name in opts if not name.startswith("_")} == OPTIONS.keys()


@pytest.mark.parametrize(
    ("changes", "forcearch", "multiplier"),
    [
        ({"host_arch": "aarch64", "forcearch": "x86_64"}, None, 1),
        ({"forcearch": "x86_64"}, "x86_64", 10),
        ({"host_arch": "aarch64", "forcearch": "s390x"}, "s390x", 10),
        ({"host_arch": "aarch64", "forcearch": None}, None, 10),
    ],
)
def test_emulation_that_mock_began_for_this_machine_is_undone(
    changes: dict[str, Any], forcearch: str | None, multiplier: int
) -> None:
    macros = {"%_platform_multiplier": 10}
    options = {**OPTIONS, "macros": macros, **changes}
    opts = parse_handover(handed(config_opts=options)).opts
    assert opts["forcearch"] == forcearch
    assert opts["macros"]["%_platform_multiplier"] == multiplier


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff",
        handed(version=1),
        handed(mock=None),
        handed(mock=["/usr/libexec/mock/mock"]),
        handed(mock=["mock.py", "python3"]),
        handed(version=None),
        handed(remote=None),
        handed(mode=1),
        handed(argv="x"),
        handed(argv=[1]),
        handed(config_opts=[]),
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(ConfigError):
        parse_handover(data)
