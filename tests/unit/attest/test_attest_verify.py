# SPDX-License-Identifier: GPL-2.0-or-later
"""What is trusted: a node as it should be, and what a verdict says of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mock_cloud.attest.policy import standard
from mock_cloud.attest.verdict import NodeRefused
from mock_cloud.attest.verify import verify
from mock_cloud.model import TrustedNode
from tests.unit.attest.attest_builder import (
    HOST_KEY,
    LAYER,
    TREE_DIGEST,
    Node,
    binding,
    judge,
    keys,
    manifest,
    sha256,
    toolkit,
    unlabelled_strict,
)


def test_a_good_node_is_trusted_and_bound_to_its_host_key() -> None:
    trusted, verdict = judge(Node().boot())
    assert trusted.host_key == HOST_KEY
    assert trusted.tier == 1
    assert trusted.layers == {LAYER: TREE_DIGEST}
    assert trusted.verdict_sha256 == verdict.sha256
    assert verdict.trusted
    assert verdict.counts["packages"] == 2


def test_a_hardened_node_satisfies_the_strict_policy() -> None:
    trusted, verdict = judge(Node().boot(), policy=unlabelled_strict())
    assert isinstance(trusted, TrustedNode)
    assert verdict.policy == "strict"


def test_a_node_or_a_manifest_of_another_architecture_than_asked_is_refused() -> None:
    asked = binding(toolkit=replace(toolkit(), arch="aarch64"))
    with pytest.raises(NodeRefused) as caught:
        judge(Node().boot(), bound=asked)
    assert [(one.code, one.expected, one.found) for one in caught.value.reasons] == [
        ("manifest.arch", "aarch64", "x86_64"),
        ("kernel.arch", "aarch64", "x86_64"),
    ]


def test_a_layer_that_nobody_recorded_is_not_reusable() -> None:
    trusted, _ = judge(Node().boot(), bound=binding(layers={}))
    assert trusted.layers == {}


def test_a_recorded_layer_may_be_gone_and_is_not_reusable_then() -> None:
    node = Node().boot()
    del node.top["trees"][LAYER]
    node.top["unreadable"].append([LAYER, "ENOENT"])
    trusted, _ = judge(node)
    assert trusted.layers == {}


@pytest.mark.parametrize(
    "path",
    [
        "/usr/share/doc/tools.txt",
        "/usr/share/doc/licence.txt",
        "/usr/share/locale/de/tools.mo",
        "/var/log/wtmp",
    ],
)
def test_documentation_and_what_varies_may_be_absent(path: str) -> None:
    node = Node().boot()
    del node.files[path]
    judge(node)


def test_a_proof_cannot_be_made_by_hand() -> None:
    with pytest.raises(TypeError):
        TrustedNode(HOST_KEY, "00" * 32, 1, {}, object())


def test_without_a_cache_the_verdict_is_the_same() -> None:
    node = Node().boot()
    _, cached = judge(node)
    _, fresh = verify(node.to_bytes(), node.blobs, manifest(), keys(), standard(), binding())
    assert fresh.to_json() == cached.to_json()


def test_a_container_is_trusted_only_where_the_remote_says_so_and_the_verdict_warns() -> None:
    node = Node().boot()
    node.top["namespaces"]["init"]["pid"] = node.top["namespaces"]["self"]["pid"] = 4026532178
    for process in node.top["processes"]:
        process["namespaces"]["pid"] = 4026532178
    with pytest.raises(NodeRefused):
        judge(node)
    _, verdict = judge(node, bound=binding(unsafe_container=True))
    assert any(note.startswith("UNSAFE: the node may be a container") for note in verdict.notes)


def test_a_kernel_without_a_kind_of_namespace_has_none_to_be_in() -> None:
    """time(7) namespaces are there since Linux 5.6, those of cgroups since 4.6."""
    node = Node().boot()
    spaces = [*node.top["namespaces"].values(), *(p["namespaces"] for p in node.top["processes"])]
    for space in spaces:
        space.pop("time", None)
        space.pop("cgroup", None)
    judge(node)


def test_the_agent_of_systemd_s_own_hierarchy_is_systemd_s() -> None:
    node = Node().boot()
    agent = "/usr/lib/systemd/systemd-cgroups-agent"
    node.top["helpers"]["release_agents"] = [["name=systemd", agent]]
    judge(node)


def test_what_a_container_cannot_see_is_its_host_s() -> None:
    node = Node().boot()
    node.top["helpers"]["release_agents"] = [["memory", None]]
    judge(node, bound=binding(unsafe_container=True))
    node.top["helpers"]["release_agents"] = None
    judge(node, bound=binding(unsafe_container=True))


@pytest.mark.parametrize("count", [1, 2])
def test_reasons_that_were_shown_are_not_said_twice(count: int) -> None:
    node = Node().boot()
    for number in range(count):
        node.add_file(f"/usr/bin/evil{number}", sha256("evil"), mode=0o755)
    with pytest.raises(NodeRefused) as caught:
        judge(node)
    assert "/usr/bin/evil0" in caught.value.message
    caught.value.message = f"node-1: {caught.value.message}"
    caught.value.sum_up()
    words = "the reason above" if count == 1 else "2 reasons, see above"
    assert caught.value.message == f"node-1: the node was refused: {words}"
