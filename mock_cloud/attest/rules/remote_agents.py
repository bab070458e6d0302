# SPDX-License-Identifier: GPL-2.0-or-later
"""Agents for remote control, as clouds and hypervisors put into images: doors that are no login.

Each takes commands from outside, as root, whenever it is sent some. Who signed the image's manifest
may have it in there; whether it may run beside a build is the remote's to say, by name (decision
0144). One under another name is a program that no manifest has.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Final

from mock_cloud.attest.evidence import Process
from mock_cloud.attest.packages import Package
from mock_cloud.attest.rules.expectations import is_interpreter
from mock_cloud.wire.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class RemoteAgent:
    """`who` commands it. `programs` are names, or paths with a slash, in which ``*`` stands for
    anything; `packages` are those that own its programs, wherever they lie."""

    name: str
    who: str
    programs: tuple[str, ...]
    packages: tuple[str, ...]

    def is_program(self, path: str) -> bool:
        """Whether its programs are called so."""
        name = posixpath.basename(path)
        return any(fnmatchcase(path if "/" in one else name, one) for one in self.programs)


_ACCOUNT: Final = "whoever holds the cloud's account"
_HOST: Final = "whoever runs the node's host"
_SERVER: Final = "whoever runs its server"

AGENTS: Final = (
    RemoteAgent("amazon-ssm-agent", _ACCOUNT,
                ("amazon-ssm-agent", "ssm-agent-worker", "ssm-document-worker",
                 "ssm-session-worker"), ("amazon-ssm-agent",)),
    RemoteAgent("google-guest-agent", _ACCOUNT,
                ("google_guest_agent", "google_guest_agent_manager", "google_guest_compat_manager",
                 "google_metadata_script_runner"), ("google-guest-agent",)),
    RemoteAgent("google-osconfig-agent", _ACCOUNT,
                ("google_osconfig_agent",), ("google-osconfig-agent",)),
    RemoteAgent("walinuxagent", _ACCOUNT, ("waagent", "WALinuxAgent-*.egg"),
                ("WALinuxAgent", "WALinuxAgent-udev", "walinuxagent", "python-azure-agent")),
    RemoteAgent("oracle-cloud-agent", _ACCOUNT,
                ("oracle-cloud-agent*", "/usr/libexec/oracle-cloud-agent/*"),
                ("oracle-cloud-agent",)),
    RemoteAgent("aliyun-assist", _ACCOUNT, ("aliyun-service", "assist_daemon"),
                ("aliyun-assist", "aliyun_assist")),
    RemoteAgent("tat-agent", _ACCOUNT, ("tat_agent",), ("tat_agent",)),
    RemoteAgent("droplet-agent", _ACCOUNT, ("droplet-agent",), ("droplet-agent",)),
    RemoteAgent("nova-agent", _ACCOUNT, ("nova-agent",), ("nova-agent",)),
    RemoteAgent("qemu-guest-agent", _HOST, ("qemu-ga",), ("qemu-guest-agent",)),
    RemoteAgent("open-vm-tools", _HOST, ("vmtoolsd", "VGAuthService"), ("open-vm-tools",)),
    RemoteAgent("virtualbox-guest-additions", _HOST, ("VBoxService",),
                ("virtualbox-guest-additions",)),
    RemoteAgent("hyperv-daemons", _HOST,
                ("hypervfcopyd", "hypervkvpd", "hypervvssd", "hv_fcopy_daemon",
                 "hv_fcopy_uio_daemon", "hv_kvp_daemon", "hv_vss_daemon"),
                ("hyperv-daemons", "hypervfcopyd", "hypervkvpd", "hypervvssd")),
    RemoteAgent("chef", _SERVER, ("chef-client",), ("chef",)),
    RemoteAgent("osquery", _SERVER, ("osqueryd",), ("osquery",)),
    RemoteAgent("puppet", _SERVER, ("puppet",), ("puppet", "puppet-agent")),
    RemoteAgent("salt-minion", _SERVER, ("salt-minion",), ("salt-minion",)),
)  # fmt: skip
"""All that are known by name."""


def find_installed(packages: Iterable[Package]) -> dict[RemoteAgent, frozenset[str]]:
    """Agents whose packages are installed, with the files of these."""
    found: dict[RemoteAgent, frozenset[str]] = {}
    for package in packages:
        for agent in AGENTS:
            if package.name in agent.packages:
                files = frozenset(posixpath.join(one.directory, one.name) for one in package.files)
                found[agent] = found.get(agent, frozenset()) | files
    return found


def find_agent(
    process: Process, installed: dict[RemoteAgent, frozenset[str]]
) -> RemoteAgent | None:
    """Which agent runs: by its executable, or by the script that an interpreter was given.

    What an interpreter runs is its command line's word; a manifest names that exactly.
    """
    exe = process.exe or ""
    words = (exe, *process.cmdline[1:]) if is_interpreter(exe) else (exe,)
    for agent in AGENTS:
        files = installed.get(agent, frozenset())
        if any(word in files or agent.is_program(word) for word in words):
            return agent
    return None
