# SPDX-License-Identifier: GPL-2.0-or-later
"""What a policy changes of a verdict, and that nothing of it is invisible."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from mock_cloud.attest.files import FileFact
from mock_cloud.attest.manifest import ImageManifest
from mock_cloud.attest.policy import (
    SHIPPED,
    Allowances,
    Forbidden,
    Policy,
    declared,
    parse_policy,
    policy_to_json,
    standard,
    strict,
)
from mock_cloud.attest.rules.expectations import is_interpreter
from mock_cloud.attest.verdict import NodeRefused, Verdict
from mock_cloud.wire.decode import Malformed
from tests.unit.attest.attest_builder import Node, binding, judge, manifest, sha256

ANY = "0.0.0.0"  # noqa: S104 (evidence)


def with_rules(policy: Policy, **values: Any) -> Policy:
    return replace(policy, rules=replace(policy.rules, **values))


def allowing(**what: Any) -> Policy:
    return replace(standard(), name="mine", allowed=(Allowances("one", "because", **what),))


def refused(node: Node, policy: Policy, image: ImageManifest | None = None) -> Verdict:
    with pytest.raises(NodeRefused) as caught:
        judge(node, policy=policy, image=image)
    return caught.value.verdict


def codes(verdict: Verdict) -> list[str]:
    return [one.code for one in verdict.reasons]


def running(exe: str, *words: str) -> Node:
    node = Node().boot()
    node.top["processes"].append(node.process(300, 1, exe, [exe, *words]))
    return node


@pytest.fixture
def program() -> str:
    """One of a package."""
    rows = Node().files.values()
    return next(row[0] for row in rows if row[2] & 0o111 and _is_plain(*row[:2]))


def _is_plain(path: str, kind: str) -> bool:
    return kind == "f" and path.startswith("/usr/bin/") and not is_interpreter(path)


def test_the_verdict_says_by_digest_which_policy_it_was(program: str) -> None:
    _, plain = judge(Node().boot())
    assert (plain.policy, plain.policy_sha256) == ("standard", standard().sha256)
    policy = allowing(module="dummy")
    _, verdict = judge(Node().boot(), policy=policy)
    assert verdict.policy_sha256 == policy.sha256 != standard().sha256
    assert policy.sha256 in verdict.to_text() and policy.sha256.encode() in verdict.to_json()
    assert "allowed by the policy: kernel module dummy: because" in verdict.notes


def test_words_do_not_change_what_a_policy_is() -> None:
    one = allowing(module="dummy")
    other = replace(one, name="x", allowed=(Allowances("y", "z", module="dummy"),), base="strict")
    assert one.sha256 == other.sha256
    assert len({make().sha256 for make in SHIPPED.values()}) == 2


def test_each_rule_changes_the_digest() -> None:
    found = {standard().sha256}
    for name in declared():
        value = getattr(standard().rules, name)
        changed = not value if isinstance(value, bool) else value / 2
        found.add(with_rules(standard(), **{name: changed}).sha256)
    assert len(found) == len(declared()) + 1


def test_a_policy_in_json_is_the_same() -> None:
    program = allowing(program="/usr/bin/x", command=("x", "-d"))
    for policy in (standard(), strict(), program, replace(standard(), agents=("puppet",))):
        again = parse_policy(json.loads(json.dumps(policy_to_json(policy))))
        assert again == policy and again.sha256 == policy.sha256


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""},
        {"checks": []},
        {"rules": {}},
        {"allowed": [{"name": "x"}]},
        {"changed": {"x": 1}},
    ],
)
def test_other_json_is_malformed(change: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        parse_policy({**policy_to_json(standard()), **change})


def test_no_tier_but_ours_can_be_asked_for() -> None:
    said = policy_to_json(standard())
    with pytest.raises(Malformed, match="2 is not from 1 to 1"):
        parse_policy({**said, "rules": {**said["rules"], "tier": 2}})


def test_a_program_is_allowed_with_its_very_command_line(program: str) -> None:
    policy = allowing(program=program, command=(program, "-d"))
    judge(running(program, "-d"), policy=policy)
    assert codes(refused(running(program, "-d"), standard())) == ["process.unknown"]
    assert codes(refused(running(program, "-x"), policy)) == ["process.unknown"]


def test_an_allowed_program_is_known_code_all_the_same(program: str) -> None:
    policy = allowing(program=program, command=(program, "-d"))
    node = running(program, "-d")
    node.top["processes"][-1]["sha256"] = sha256("evil")
    assert codes(refused(node, policy)) == ["process.digest"]
    node = running(program, "-d")
    node.top["processes"][-1]["environ"] = {"LD_PRELOAD": "/tmp/x"}
    assert codes(refused(node, policy)) == ["process.environment"]


def test_an_allowed_program_listens_where_it_may(program: str) -> None:
    policy = allowing(program=program, command=(program,), ports=("tcp 9100",))
    node = running(program)
    node.top["sockets"].append(["tcp", ANY, 9100, 300])
    judge(node, policy=policy)
    node.top["sockets"].append(["tcp", ANY, 9101, 300])
    assert codes(refused(node, policy)) == ["socket.unknown"]


def test_a_file_may_vary_as_data_and_not_as_a_program() -> None:
    path = "/var/lib/monitor"
    policy = allowing(file=path, kind="state")
    node = Node().boot()
    node.files[path] = [path, "d", 0o755, 0, 0, 0, None, None]
    node.files[f"{path}/x"] = [f"{path}/x", "f", 0o644, 0, 0, 1, sha256("x"), None]
    judge(node, policy=policy)
    assert set(codes(refused(node, standard()))) == {"file.unknown"}
    node.files[f"{path}/x"][2] = 0o755
    assert codes(refused(node, policy)) == ["file.volatile"]


def test_a_module_is_allowed_by_name() -> None:
    node = Node().boot()
    for name in ("modules", "modules_sysfs"):
        node.top["kernel"][name].append("dummy")
    judge(node, policy=allowing(module="dummy"))
    assert set(codes(refused(node, standard()))) == {"kernel.module"}
    node.top["kernel"]["tainted"] = 1 << 12
    assert codes(refused(node, allowing(module="dummy"))) == ["kernel.tainted"]


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ({}, "one of program, file and module"),
        ({"module": "x", "file": "/x"}, "one of program, file and module"),
        ({"module": "x", "command": ("x",)}, "go with a program"),
        ({"file": "/var/x"}, "goes with a kind"),
        ({"file": "/var/x", "kind": "devices"}, "goes with a kind"),
        ({"file": "/usr/bin", "kind": "tree"}, "read as code"),
        ({"file": "/etc/x", "kind": "data"}, "read as code"),
        ({"file": "/", "kind": "tree"}, "absolute path"),
        ({"file": "/var", "kind": "tree"}, "read as code"),
        ({"program": "x", "command": ("x",)}, "absolute path"),
        ({"program": "/bin/sh", "command": ("sh",)}, "runs what it is told"),
        ({"program": "/bin/sh", "command": ("sh", "-i")}, "runs what it is told"),
        ({"program": "/x", "ports": ("tcp",)}, "a port is written"),
        ({"program": "/x", "ports": ("tcp 0",)}, "there is no port"),
        ({"program": "/x", "ports": ("unix 1",)}, "a port is written"),
        ({"program": "/x", "ports": ("tcp \u0661",)}, "a port is written"),
    ],
)
def test_what_no_policy_may_allow(what: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        allowing(**what)


def test_what_the_policy_forbids_may_not_be_there(program: str) -> None:
    def forbidding(**what: str) -> Policy:
        return replace(standard(), forbidden=(Forbidden("one", "because", **what),))

    sshd = "/usr/sbin/sshd"
    for name in (sshd, "sshd"):
        assert set(codes(refused(Node().boot(), forbidding(program=name)))) == {"policy.program"}
    assert codes(refused(Node().boot(), forbidding(module="overlay"))) == ["policy.module"]
    assert codes(refused(Node().boot(), forbidding(package="tools"))) == ["policy.package"]
    judge(
        Node().boot(),
        policy=forbidding(
            program="/usr/bin/sshd",
        ),
    )
    allowed = replace(forbidding(program="sshd"), allowed=(Allowances("x", "y", program=sshd),))
    judge(Node().boot(), policy=allowed)
    with pytest.raises(ValueError, match="one of program, module and package"):
        Forbidden("one", "because")


def test_a_strict_verdict_wants_programs_of_packages() -> None:
    path = "/usr/local/bin/mine"
    row = [path, "f", 0o755, 0, 0, 4, sha256("mine"), None]
    image = manifest()
    image = replace(image, entries=(*image.entries, FileFact(*row[:7], ())))
    node = Node().boot()
    node.files[path] = row
    judge(node, image=image)
    policy = with_rules(standard(), unsigned_programs=False)
    verdict = refused(node, policy, image)
    assert [(one.code, one.subject) for one in verdict.reasons] == [("policy.unsigned", path)]


def test_a_strict_verdict_wants_labels() -> None:
    assert codes(refused(Node().boot(), strict())) == ["policy.labels"]
    judge(Node().boot(), policy=with_rules(strict(), labels=False))


def test_no_container_passes_a_strict_verdict() -> None:
    node = Node().boot()
    node.top["namespaces"] = {
        name: {**spaces, "pid": 1} for name, spaces in node.top["namespaces"].items()
    }
    for process in node.top["processes"]:
        if not process["kernel"]:
            process["namespaces"] = {**process["namespaces"], "pid": 1}
    bound = replace(binding(), unsafe_container=True)
    judge(node, bound=bound)
    with pytest.raises(NodeRefused) as caught:
        judge(node, bound=bound, policy=with_rules(standard(), containers=False))
    assert codes(caught.value.verdict) == ["node.container"]


def test_strict_asks_for_more_and_gives_a_reason_for_each() -> None:
    for name, rule in declared().items():
        assert rule.text and rule.why, name
        if rule.strict is None:
            assert not rule.why_strict, name
        else:
            assert rule.strict != getattr(standard().rules, name) and rule.why_strict, name
            assert strict().find_reason(name) == rule.why_strict
        assert standard().find_reason(name) == rule.why
    assert all(one.reason for one in strict().forbidden)
