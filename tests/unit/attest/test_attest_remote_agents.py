# SPDX-License-Identifier: GPL-2.0-or-later
"""Agents for remote control are refused by what was measured, unless the remote has them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mock_cloud.attest.evidence import Process, parse_evidence
from mock_cloud.attest.files import FileFact
from mock_cloud.attest.manifest import ImageManifest
from mock_cloud.attest.packages import Package, PackageFile
from mock_cloud.attest.policy import Policy, parse_policy, policy_to_json, standard, strict
from mock_cloud.attest.rules.expectations import Invocation, ProgramRule
from mock_cloud.attest.rules.remote_agents import AGENTS, RemoteAgent, find_agent, find_installed
from mock_cloud.attest.verdict import NOT_PROVEN, NodeRefused, Verdict
from tests.unit.attest.attest_builder import Node, judge, manifest, sha256

SSM = "/usr/bin/amazon-ssm-agent"
BY_NAME = {agent.name: agent for agent in AGENTS}


def image_with(path: str, *argv: str) -> ImageManifest:
    """A manifest whose signer lets this program run: the agent came with the image."""
    made = manifest()
    entry = FileFact(path, "f", 0o755, 0, 0, 4, sha256(path), ())
    rule = ProgramRule(path, Invocation.EXACT, (path, *argv))
    return replace(made, entries=(*made.entries, entry), programs=(*made.programs, rule))


def node_with(path: str, *argv: str, exe: str = "") -> Node:
    node = Node().boot()
    node.add_file(path, sha256(path), mode=0o755, size=4)
    node.top["processes"].append(node.process(300, 1, exe or path, [exe or path, *argv]))
    return node


def codes(node: Node, image: ImageManifest | None = None, policy: Policy | None = None) -> Any:
    with pytest.raises(NodeRefused) as caught:
        judge(node, image=image, policy=policy)
    return {(one.code, one.found) for one in caught.value.verdict.reasons}


def judged(node: Node, image: ImageManifest, policy: Policy) -> Verdict:
    return judge(node, image=image, policy=policy)[1]


def test_one_that_a_manifest_has_is_refused_all_the_same() -> None:
    for policy in (standard(), replace(strict(), rules=standard().rules)):
        found = codes(node_with(SSM), image_with(SSM), policy)
        assert found == {("policy.agent", "amazon-ssm-agent")}


def test_one_that_the_remote_allows_is_in_the_verdict() -> None:
    policy = replace(standard(), agents=("amazon-ssm-agent",))
    verdict = judged(node_with(SSM), image_with(SSM), policy)
    assert any("amazon-ssm-agent, by which whoever holds" in note for note in verdict.notes)
    assert verdict.not_proven[:-1] == NOT_PROVEN
    assert "whoever holds the cloud's account does nothing by amazon" in verdict.not_proven[-1]
    assert f"not proven: {verdict.not_proven[-1]}\n" in verdict.to_text()
    assert verdict.not_proven[-1].encode() in verdict.to_json()
    other = replace(standard(), agents=("qemu-guest-agent",))
    assert codes(node_with(SSM), image_with(SSM), other) == {("policy.agent", "amazon-ssm-agent")}


def test_allowing_one_lets_nothing_run_that_the_manifest_lacks() -> None:
    policy = replace(standard(), agents=tuple(BY_NAME))
    found = {code for code, _ in codes(node_with(SSM), None, policy)}
    assert found >= {"file.unknown", "process.executable", "process.unknown"}
    node = node_with(SSM)
    node.top["processes"][-1]["sha256"] = sha256("another")
    assert {code for code, _ in codes(node, image_with(SSM), policy)} == {"process.digest"}


@pytest.mark.parametrize("path", ["/usr/bin/backupd", "/usr/local/bin/sshd", "/opt/x/sshd: root"])
def test_one_that_was_renamed_or_copied_is_a_program_of_nobodys(path: str) -> None:
    """Its bytes are a known file's; its place is not."""
    node = node_with(path)
    node.files[path][6] = sha256(SSM)
    node.top["processes"][-1]["sha256"] = sha256(SSM)
    found = {code for code, _ in codes(node, image_with(SSM))}
    assert found >= {"file.unknown", "process.executable", "process.unknown"}


def test_one_that_was_moved_over_a_known_program_is_another_file() -> None:
    node = Node().boot()
    path = next(path for path in node.files if path.startswith("/usr/bin/"))
    node.files[path][6] = sha256(SSM)
    node.top["processes"].append(node.process(300, 1, path, [path]))
    assert {code for code, _ in codes(node)} >= {"file.digest", "process.digest"}


def test_the_title_of_a_process_is_no_matter() -> None:
    """It may call itself what it likes: what counts is what it executes."""
    node = node_with(SSM)
    node.top["processes"][-1]["cmdline"] = ["/usr/sbin/sshd", "-D"]
    assert ("policy.agent", "amazon-ssm-agent") in codes(node, image_with(SSM))


def a_process(exe: str, *argv: str) -> Process:
    node = Node().boot()
    node.add_file(exe, sha256(exe), mode=0o755)
    node.top["processes"].append(node.process(300, 1, exe, [exe, *argv]))
    return parse_evidence(node.to_bytes()).processes[-1]


def a_package(name: str, *paths: str) -> Package:
    files = tuple(
        PackageFile(directory + "/", base, "f", 0o755, "root", "root", 1, "0" * 64, (), 0, 0, "")
        for directory, _, base in (path.rpartition("/") for path in paths)
    )
    return Package(name, "1-1", "x86_64", "1" * 64, "2" * 40, files)


@pytest.mark.parametrize(
    ("name", "exe", "words"),
    [
        ("amazon-ssm-agent", "/snap/amazon-ssm-agent/1/ssm-agent-worker", ()),
        ("google-guest-agent", "/usr/bin/google_guest_agent", ()),
        ("google-osconfig-agent", "/usr/bin/google_osconfig_agent", ()),
        ("qemu-guest-agent", "/usr/bin/qemu-ga", ("--method=virtio-serial",)),
        ("open-vm-tools", "/usr/bin/vmtoolsd", ()),
        ("walinuxagent", "/usr/bin/python3.12", ("-u", "/usr/sbin/waagent", "-daemon")),
        ("walinuxagent", "/usr/bin/python3.9",
         ("-u", "bin/WALinuxAgent-2.9.1.1-py3.8.egg", "-run-exthandlers")),
        ("oracle-cloud-agent", "/usr/libexec/oracle-cloud-agent/agent", ()),
        ("aliyun-assist", "/usr/local/share/aliyun-assist/2.2.3.4/aliyun-service", ("-d",)),
        ("aliyun-assist", "/usr/local/share/assist-daemon/assist_daemon", ()),
        ("tat-agent", "/usr/local/qcloud/tat_agent/tat_agent", ()),
        ("droplet-agent", "/opt/digitalocean/bin/droplet-agent", ()),
        ("hyperv-daemons", "/usr/sbin/hypervfcopyd", ("-n",)),
        ("hyperv-daemons", "/usr/sbin/hv_fcopy_uio_daemon", ()),
        ("puppet", "/usr/bin/ruby", ("/usr/bin/puppet", "agent")),
        ("salt-minion", "/usr/bin/python3.13", ("/usr/bin/salt-minion",)),
    ],
)  # fmt: skip
def test_known_by_their_programs(name: str, exe: str, words: tuple[str, ...]) -> None:
    assert find_agent(a_process(exe, *words), {}) is BY_NAME[name]


def test_known_by_their_package_wherever_it_puts_them() -> None:
    path = "/opt/aws/new/engine"
    installed = find_installed([a_package("bash", "/usr/bin/bash"),
                                a_package("amazon-ssm-agent", path)])  # fmt: skip
    assert find_agent(a_process(path), installed) is BY_NAME["amazon-ssm-agent"]
    assert find_agent(a_process(path), {}) is None
    script = find_installed([a_package("WALinuxAgent", "/usr/libexec/w/main.py")])
    running = a_process("/usr/bin/python3.12", "/usr/libexec/w/main.py")
    assert find_agent(running, script) is BY_NAME["walinuxagent"]


def test_others_are_not_taken_for_one() -> None:
    """Words that an ordinary program was given name nothing that it runs."""
    for exe, words in (
        ("/usr/bin/less", ("/usr/sbin/waagent",)),
        ("/usr/sbin/sshd", ("-D",)),
        ("/usr/bin/agent", ()),
        ("/usr/bin/python3.12", ("/usr/bin/dnf",)),
    ):
        assert find_agent(a_process(exe, *words), {}) is None, exe


def test_one_that_is_installed_and_does_not_run_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the test's own package, since no agent's header is among the test's data."""
    from mock_cloud.attest.rules import remote_agents

    tools = RemoteAgent("tools", "somebody", ("no-such",), ("base",))
    monkeypatch.setattr(remote_agents, "AGENTS", (tools,))
    _, verdict = judge(Node().boot())
    assert "tools is installed; it did not run when the node was measured" in verdict.notes


def test_a_policy_of_before_allows_none() -> None:
    said = policy_to_json(replace(standard(), agents=("puppet",)))
    del said["agents"]
    assert parse_policy(said) == standard()


def test_each_is_described() -> None:
    assert len(BY_NAME) == len(AGENTS)
    for agent in AGENTS:
        assert agent.who and agent.programs and agent.packages, agent.name
