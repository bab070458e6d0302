# SPDX-License-Identifier: GPL-2.0-or-later
"""Which processes of our own toolkit a node may run: the agent, its launcher, one dead-man."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mock_cloud.attest.rules.expectations import TOOLKIT_PROGRAM, Invocation, ProgramRule
from mock_cloud.attest.verdict import NodeRefused
from mock_cloud.wire.layout import WORKSPACE
from tests.unit.attest.attest_builder import AGENT_PID, Json, Node, judge, manifest, sha256, toolkit

TOOLS = toolkit().node_dir
DEADMAN = ("deadman", "--workspace", WORKSPACE)
LAUNCH = ("launch", "--workspace", WORKSPACE)
FOREIGN = f"{WORKSPACE}/toolkit/{'dd' * 32}"
EVIL = sha256("evil")


def run(node: Node, *words: str, pid: int = 40, ppid: int = 1, **facts: Any) -> Json:
    """A process of the toolkit, started with `words`."""
    process = node.process(pid, ppid, f"{TOOLS}/ld.so", toolkit().argv(*words)) | facts
    node.top["processes"].append(process)
    return process


def codes(node: Node) -> set[str]:
    with pytest.raises(NodeRefused) as caught:
        judge(node)
    return {reason.code for reason in caught.value.reasons}


def test_the_dead_man_and_the_launcher_of_our_toolkit_may_run() -> None:
    node = Node().boot()
    run(node, *DEADMAN)
    run(node, *LAUNCH, pid=41, ppid=AGENT_PID)
    judge(node)


def foreign(node: Node) -> None:
    """The same agent, but from a toolkit that is not the one that was pushed."""
    files = {path: row for path, row in node.files.items() if path.startswith(f"{TOOLS}/")}
    for path, row in files.items():
        moved = path.replace(TOOLS, FOREIGN)
        node.files[moved] = [moved, *row[1:]]
    process = node.process(40, 1, f"{FOREIGN}/ld.so", toolkit().argv(*DEADMAN))
    process["cmdline"] = [word.replace(TOOLS, FOREIGN) for word in process["cmdline"]]
    node.top["processes"].append(process)


def with_words(*words: str) -> Callable[[Node], object]:
    return lambda node: run(node, *words)


def with_facts(**facts: Any) -> Callable[[Node], object]:
    return lambda node: run(node, *DEADMAN, **facts)


def twice(node: Node) -> None:
    run(node, *DEADMAN)
    run(node, *DEADMAN, pid=41)


REFUSED = [
    (with_words("deadman"), "process.unknown"),
    (with_words("deadman", "--workspace", "/tmp/W"), "process.unknown"),
    (with_words(*DEADMAN, "--forever"), "process.unknown"),
    (with_words("deadmen", "--workspace", WORKSPACE), "process.unknown"),
    (with_words("measure", "--root", "/tmp"), "process.unknown"),
    (with_words("serve", "--workspace", "/tmp/W"), "process.unknown"),
    (with_words(), "process.unknown"),
    (twice, "process.duplicate"),
    (foreign, "process.executable process.map process.unknown toolkit.unknown"),
    (with_facts(ppid=666), "process.parent"),
    (with_facts(uid=1000), "process.owner"),
    (with_facts(gid=1000), "process.owner"),
    (with_facts(environ={"LD_PRELOAD": "/tmp/evil.so"}), "process.environment"),
    (with_facts(exe="/usr/bin/bash"), "process.digest process.unknown"),
    (with_facts(exe="/tmp/ld.so"), "process.executable process.unknown"),
    (with_facts(sha256=EVIL), "process.digest"),
    (with_facts(deleted=True), "process.deleted"),
    (with_facts(maps=[["/tmp/evil.so", False, EVIL]]), "process.map"),
    (with_facts(maps=[[f"{TOOLS}/lib/libc.so.6", True, None]]), "process.map-deleted"),
    (with_facts(anonymous_exec=1), "process.anonymous-code"),
    (with_facts(patched=[f"{TOOLS}/lib/libc.so.6"]), "process.patched"),
    (with_facts(tracer=666), "process.traced"),
    (with_facts(namespaces={"mnt": 1, "pid": 2, "net": 3}), "process.namespace"),
    (with_facts(root="/srv/jail"), "process.root"),
]


@pytest.mark.parametrize(("spoil", "wanted"), REFUSED)
def test_nothing_that_only_looks_like_it(spoil: Callable[[Node], object], wanted: str) -> None:
    node = Node().boot()
    spoil(node)
    assert codes(node) == set(wanted.split())


def test_the_dead_man_cannot_stand_for_the_agent_that_measured() -> None:
    node = Node().boot()
    node.agent["cmdline"] = toolkit().argv(*DEADMAN)
    assert "agent.identity" in codes(node)


def test_only_a_signed_rule_lets_our_own_programs_have_code_without_a_file() -> None:
    """As they have where a node's programs are emulated. It lets in nothing else."""
    allowed = ProgramRule(TOOLKIT_PROGRAM, Invocation.ANY, may_generate_code=True)
    image = replace(manifest(), programs=(*manifest().programs, allowed))
    node = Node().boot()
    run(node, *DEADMAN, anonymous_exec=1)
    judge(node, image=image)
    run(node, "measure", pid=41, anonymous_exec=1)
    with pytest.raises(NodeRefused) as caught:
        judge(node, image=image)
    found = {reason.code for reason in caught.value.reasons}
    assert found == {"process.unknown", "process.anonymous-code"}


@pytest.mark.parametrize("mode", [0o755, 0o4644, 0o666])
def test_what_it_keeps_in_the_workspace_is_data(mode: int) -> None:
    node = Node().boot()
    node.add_directory(f"{WORKSPACE}/deadman", mode=0o700)
    node.add_file(f"{WORKSPACE}/deadman/lock", sha256(""), mode=0o600, size=0)
    path = f"{WORKSPACE}/deadman/socket"
    node.files[path] = [path, "s", 0o755, 0, 0, 0, None, None]
    judge(node)
    node.add_file(f"{WORKSPACE}/deadman/lock", sha256(""), mode=mode, size=0)
    assert codes(node) == {"file.unknown"}
