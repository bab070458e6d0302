# SPDX-License-Identifier: GPL-2.0-or-later
"""What a policy asks for beyond the checklist's own steps, and what it says of itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from mock_cloud.attest.differences import is_code
from mock_cloud.attest.evidence import Evidence
from mock_cloud.attest.knowngood import KnownFiles
from mock_cloud.attest.packages import Package
from mock_cloud.attest.policy import Policy
from mock_cloud.attest.rules.remote_agents import find_agent, find_installed
from mock_cloud.errors import Reason

_LOADERS: Final = ("/etc/ld.so.cache", "/etc/ld.so.conf")
"""Named like libraries, and none."""


def check_forbidden(
    evidence: Evidence, packages: Iterable[Package], policy: Policy
) -> Iterator[Reason]:
    """``policy.program``, ``policy.module``, ``policy.package``: there, and forbidden."""
    loaded = evidence.kernel.modules | evidence.kernel.modules_sysfs if evidence.kernel else ()
    installed = {package.name for package in packages}
    for one in policy.forbids():
        for process in evidence.processes:
            if one.is_program(process.exe or ""):
                who = f"pid {process.pid} {process.exe}"
                yield Reason("policy.program", who, f"not running: {one.reason}", one.name)
        if one.module and one.module in loaded:
            yield Reason("policy.module", one.module, f"not loaded: {one.reason}", one.name)
        if one.package and one.package in installed:
            yield Reason("policy.package", one.package, f"not installed: {one.reason}", one.name)


def check_unsigned(known: KnownFiles, policy: Policy) -> Iterator[Reason]:
    """``policy.unsigned``, ``policy.labels``: what the manifest alone speaks for, or does not."""
    if policy.rules.labels and not known.labels:
        yield Reason("policy.labels", "manifest", "SELinux labels", "none")
    for path in () if policy.rules.unsigned_programs else sorted(known.pinned):
        is_program = path not in _LOADERS and is_code(known.exact[path])
        if is_program and path not in known.signed.files:
            yield Reason("policy.unsigned", path, "of a signed package", "the manifest's alone")


def check_agents(
    evidence: Evidence, packages: Iterable[Package], policy: Policy
) -> Iterator[Reason]:
    """``policy.agent``: an agent for remote control runs, and may not."""
    installed, allowed = find_installed(packages), policy.allowed_agents()
    for process in evidence.processes:
        agent = find_agent(process, installed)
        if agent is not None and agent not in allowed:
            who = f"pid {process.pid} {process.exe}"
            yield Reason("policy.agent", who, f"no way in for {agent.who}", agent.name)


def describe_allowed(policy: Policy) -> Iterator[str]:
    """Notes on what the policy lets be there besides the manifest's."""
    for one in policy.allowed:
        yield f"allowed by the policy: {one.what()}: {one.reason}"
    for agent in policy.allowed_agents():
        yield f"allowed to run: {agent.name}, by which {agent.who} is root there at any time"


def describe_agents(evidence: Evidence, packages: Iterable[Package]) -> Iterator[str]:
    """Notes on agents that are installed and did not run when it was measured."""
    installed = find_installed(packages)
    running = {find_agent(one, installed) for one in evidence.processes}
    for agent in installed:
        if agent not in running:
            yield f"{agent.name} is installed; it did not run when the node was measured"
