# SPDX-License-Identifier: GPL-2.0-or-later
"""Orders to install: what is no order is refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mock_cloud.wire.decode import Malformed, decode_bytes, to_json
from mock_cloud.wire.orders import InstallOrder

ORDER = InstallOrder(["mock", "rpm-build"], "[main]\n", {"key": "-----BEGIN"}, "43", True, True)


def test_an_order_comes_back_as_it_was() -> None:
    assert decode_bytes(InstallOrder, to_json(ORDER)) == ORDER


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "mock-cloud/install/1"},
        {"packages": ["--installroot=/"]},
        {"packages": ["-y"]},
        {"packages": [""]},
        {"packages": "mock"},
        {"packages": [{"name": "mock"}]},
        {"keys": {"../key": "text"}},
        {"keys": {"/etc/passwd": "text"}},
        {"keys": {"key": 1}},
        {"keys": []},
        {"dnf_conf": 1},
        {"releasever": None},
        {"only_these": 1},
        {"upgrade": "yes"},
        {"scripts": []},
    ],
)
def test_anything_else_is_refused(change: dict[str, Any]) -> None:
    raw = json.loads(to_json(ORDER)) | change
    with pytest.raises(Malformed):
        decode_bytes(InstallOrder, json.dumps(raw).encode())


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"{}", b"null"])
def test_no_json_object_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        decode_bytes(InstallOrder, data)
