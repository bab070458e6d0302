# SPDX-License-Identifier: GPL-2.0-or-later
"""A tainted kernel: tampering, a broken machine, or a bad day."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mock_cloud.attest.kernel import KernelFacts
from mock_cloud.attest.policy import Policy, standard
from mock_cloud.attest.verdict import NodeRefused, Verdict
from tests.unit.attest.attest_builder import Node, judge, manifest, unlabelled_strict


def tainted(bits: int) -> Node:
    node = Node().boot()
    node.top["kernel"]["tainted"] = bits
    return node


def refused(node: Node, policy: Policy | None = None) -> Verdict:
    with pytest.raises(NodeRefused) as caught:
        judge(node, policy=policy)
    return caught.value.verdict


@pytest.mark.parametrize(("bit", "letter"), [(2, "S"), (9, "W"), (11, "I"), (14, "L")])
def test_an_event_is_noted_and_only_the_strict_policy_refuses_it(bit: int, letter: str) -> None:
    node = tainted(1 << bit)
    _, verdict = judge(node)
    assert any(f"taint {letter} (bit {bit}) is set" in note for note in verdict.notes)
    assert [one.code for one in refused(node, unlabelled_strict()).reasons] == ["kernel.tainted"]


@pytest.mark.parametrize("bit", [4, 5, 7])
def test_a_kernel_that_failed_is_refused_and_needs_a_reboot(bit: int) -> None:
    (reason,) = refused(tainted(1 << bit)).reasons
    assert reason.code == "kernel.broken"
    assert reason.found.endswith("reboot the node: the bit stays until then")


@pytest.mark.parametrize("bit", [0, 1, 3, 6, 8, 10, 12, 13, 15, 16, 17, 18, 19, 20, 62])
def test_other_code_is_refused_and_so_is_a_bit_that_is_unknown(bit: int) -> None:
    (reason,) = refused(tainted(1 << bit)).reasons
    assert reason.code == "kernel.tainted"
    assert f"(bit {bit})" in reason.subject
    assert "reboot the node" in reason.found


def test_each_bit_is_a_reason_of_its_own_and_the_reference_s_are_none() -> None:
    image = manifest()
    assert isinstance(image.kernel, KernelFacts)
    expects = replace(image, kernel=replace(image.kernel, tainted=1 << 12))
    judge(tainted(1 << 12), image=expects)
    judge(tainted(0), image=expects)
    found = refused(tainted(1 << 12 | 1 << 13 | 1 << 9), standard())
    assert [one.subject for one in found.reasons] == ["taint O (bit 12)", "taint E (bit 13)"]


def test_a_kernel_that_tells_no_taint_is_refused() -> None:
    node = Node().boot()
    node.top["kernel"]["tainted"] = None
    codes = {one.code for one in refused(node).reasons}
    assert codes == {"kernel.tainted", "kernel.broken"}
    node.top["kernel"]["tainted"] = -1
    assert {one.code for one in refused(node).reasons} == codes
