# SPDX-License-Identifier: GPL-2.0-or-later
"""A node without one readable package database has no packages to speak for it."""

from __future__ import annotations

from typing import Any

import pytest

from mock_cloud.attest.evidence import parse_evidence
from mock_cloud.attest.image_manifest import BakeChoices, make_manifest
from mock_cloud.attest.manifest import ImageManifest
from mock_cloud.errors import AttestationRefused
from tests.unit.attest.attest_builder import ACCOUNTS, Node, judge, keys

ONE = ["/var/lib/rpm", "sqlite", None]
UNFIT: dict[str, tuple[list[Any], str]] = {
    "none": ([], "none"),
    "another backend": ([["/var/lib/rpm", "bdb", None]], "bdb"),
    "two places": ([["/usr/lib/sysimage/rpm", "sqlite", None], ONE], "/usr/lib/sysimage/rpm"),
    "two backends": ([ONE, ["/var/lib/rpm", "ndb", None]], "ndb"),
    "unreadable": ([["/var/lib/rpm", "sqlite", "EIO: a row is no header"]], "a row is no header"),
    "no packages": ([ONE], "no packages"),
}


def make(node: Node) -> ImageManifest:
    choices = BakeChoices(name="image", created="2026-01-01", accounts=ACCOUNTS)
    return make_manifest(parse_evidence(node.to_bytes()), node.blobs, keys(), choices)


@pytest.mark.parametrize("what", UNFIT)
def test_no_manifest_is_made_and_no_node_trusted(what: str) -> None:
    databases, said = UNFIT[what]
    image, node = Node(), Node().boot()
    for one in (image, node):
        one.top["rpmdb"] = databases
        if what == "no packages":
            one.top["headers"] = []
    for attempt in (lambda: make(image), lambda: judge(node)):
        with pytest.raises(AttestationRefused) as caught:
            attempt()
        reason = next(one for one in caught.value.reasons if one.code == "package.database")
        assert said in reason.found


def test_an_empty_database_in_a_second_place_hides_nothing() -> None:
    node = Node().boot()
    node.top["rpmdb"] = [ONE, ["/usr/lib/sysimage/rpm", "sqlite", None]]
    with pytest.raises(AttestationRefused) as caught:
        judge(node)
    assert {one.code for one in caught.value.reasons} == {"package.database"}
