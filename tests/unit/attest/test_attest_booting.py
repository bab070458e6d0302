# SPDX-License-Identifier: GPL-2.0-or-later
"""Reasons for which a new node is measured once more, and those for which none is."""

from __future__ import annotations

import pytest

from mock_cloud.attest.still_booting import find_patience_s, is_booting
from mock_cloud.attest.verdict import REASONS_MAX, NodeRefused
from mock_cloud.errors import AttestationRefused, Reason
from tests.unit.attest.attest_builder import Node, judge, sha256

PYTHON = Reason("process.unknown", "pid 70 /usr/bin/python3", "a program that may run", "")


def refused(*reasons: Reason) -> AttestationRefused:
    return AttestationRefused("the node was refused", reasons=reasons)


def test_a_witness_is_waited_for_as_long_as_any_reason_of_a_boot() -> None:
    """It may be of a login that ends at once, and of a service that D-Bus started."""
    witness = Reason("login.witness", "/usr/lib/systemd/systemd-hostnamed", "", "")
    assert find_patience_s(refused(witness), boot_s=600.0) == 600.0
    assert find_patience_s(refused(witness), boot_s=0.0) == 5.0
    assert find_patience_s(refused(PYTHON), boot_s=600.0) == 600.0
    assert find_patience_s(refused(PYTHON, Reason("file.digest", "/x", "", "")), 600.0) == 0.0


@pytest.mark.parametrize(
    ("code", "subject"),
    [
        ("process.unknown", "pid 70 /usr/bin/python3"),
        ("process.namespace", "pid 71 /usr/lib/systemd/systemd-hostnamed"),
        ("kernel.bpf", '[15,"sd_devices","11f9ebd5a396046a"]'),
        ("socket.unknown", "udp 0.0.0.0:68"),
        ("file.changed", "/var/lib/cloud/data/status.json"),
        ("file.unreadable", "/run/cloud-init/sem/config_ssh"),
        ("file.unknown", "/var/lib/cloud/data/tmp0a_bc9de"),
        ("file.unknown", "/run/cloud-init/tmpabcdefgh"),
    ],
)
def test_a_boot_explains_it(code: str, subject: str) -> None:
    assert is_booting(refused(PYTHON, Reason(code, subject, "", "")))


@pytest.mark.parametrize(
    ("code", "subject"),
    [
        ("process.executable", "pid 70 /usr/bin/python3"),
        ("process.digest", "pid 70 /usr/bin/python3"),
        ("process.map", "pid 70 /usr/bin/python3"),
        ("process.environment", "pid 70 /usr/bin/python3"),
        ("process.hidden", "pid 70"),
        ("process.traced", "pid 70 /usr/bin/python3"),
        ("file.digest", "/usr/bin/python3"),
        ("file.changed", "/usr/bin/python3"),
        ("file.changed", "/var/lib/cloud/scripts/per-boot/x"),
        ("file.volatile", "/var/lib/cloud/instances/i-1/scripts"),
        ("file.unknown", "/var/lib/cloud/scripts/per-boot/tmp0a_bc9de"),
        ("file.unknown", "/var/lib/cloud/data/tmp0a_bc9de/x"),
        ("file.unknown", "/usr/bin/tmp0a_bc9d"),
        ("kernel.module", "evil"),
        ("evidence.nonce", "nonce"),
    ],
)
def test_a_boot_does_not_explain_it(code: str, subject: str) -> None:
    assert not is_booting(refused(PYTHON, Reason(code, subject, "", "")))


def test_what_ended_between_the_listing_and_the_look_is_looked_for_again() -> None:
    """systemd-hostnamed's files, half a minute after a boot."""
    path = "/run/systemd/units/invocation:systemd-hostnamed.service"
    assert is_booting(refused(PYTHON, Reason("file.unreadable", path, "readable", "ENOENT")))
    assert not is_booting(refused(PYTHON, Reason("file.unreadable", path, "readable", "EACCES")))


def test_reasons_that_were_only_counted_may_be_any() -> None:
    assert is_booting(refused(PYTHON))
    assert not is_booting(refused(*[PYTHON] * REASONS_MAX)), "there may be more"
    assert not is_booting(refused())


def test_a_process_of_unknown_code_is_no_boot() -> None:
    node = Node().boot()
    node.top["processes"].append(node.process(70, 1, "/usr/bin/grep", ["grep", "-r"]))
    with pytest.raises(NodeRefused) as caught:
        judge(node)
    assert is_booting(caught.value)
    node.top["processes"][-1]["sha256"] = sha256("evil")
    with pytest.raises(NodeRefused) as caught:
        judge(node)
    assert not is_booting(caught.value)
