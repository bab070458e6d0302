# SPDX-License-Identifier: GPL-2.0-or-later
"""A local node that an attacker is root on before it is attested, as a command attests it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mock_cloud.attest.verdict import NodeRefused
from mock_cloud.cloud.leased import LeasedNode
from mock_cloud.model import Toolkit
from mock_cloud.remote.connect import connect
from mock_cloud.steps.attest.attesting import Archive, Attested, Nature, attest_node
from mock_cloud.steps.attest.known_good_sets import KnownGood
from tests.component.cloud_nodes import Site

_GONE_S = 10.0


@dataclass
class AttackedNode:
    """One leased node; `attest` connects anew each time."""

    site: Site
    leased: LeasedNode
    toolkit: Toolkit
    known: KnownGood
    directory: Path
    nature: Nature = field(default_factory=lambda: Nature(shares_kernel=True))

    def attest(self) -> Attested:
        """The verdict, as a command gets it. NodeRefused."""
        archive = Archive(self.site.state_dir / "cache", self.site.state_dir)
        node = connect(self.leased.address, self.leased.client_key, deadline_s=30)
        try:
            return attest_node(
                node, self.leased, self.toolkit, self.known, archive,
                nature=self.nature,
            )  # fmt: skip
        finally:
            node.close()

    def refusals(self) -> dict[str, set[str]]:
        """Subjects by reason code; the node must be refused."""
        with pytest.raises(NodeRefused) as caught:
            self.attest()
        found: dict[str, set[str]] = {}
        for reason in caught.value.reasons:
            found.setdefault(reason.code, set()).add(reason.subject)
        return found

    def do(self, script: str) -> str:
        """The attacker's `script`, run to its end as root on the node."""
        return self.site.ssh(self.leased, script)

    def try_key(self, key: Path, command: str) -> subprocess.CompletedProcess[str]:
        """`command` over a connection that is authenticated with another `key`."""
        argv = [*self._client(key), f"root@{self.leased.address.host}", command]
        return subprocess.run(argv, capture_output=True, text=True, timeout=600, check=False)

    @contextmanager
    def second_session(self, *command: str) -> Iterator[Session]:
        """A connection of the same user that is open already, with a way to use it later."""
        control = self.directory / "control"
        key = self.site.state_dir / "keys" / self.leased.lease_id
        argv = [*self._client(key), "-M", "-S", str(control)]
        argv += [f"root@{self.leased.address.host}", *(command or ("-N",))]
        if not command:
            argv[-2:] = ["-N", argv[-2]]
        session = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + _GONE_S
            while not control.exists():
                assert time.monotonic() < deadline, "the second session did not open"
                time.sleep(0.02)
            yield Session(control, self.leased.address.host)
        finally:
            session.terminate()
            session.communicate()

    def _client(self, key: Path) -> list[str]:
        """OpenSSH's client for this node, without any configuration of this machine's."""
        known, address = self.directory / "known_hosts", self.leased.address
        known.write_text(f"{address.host} {address.host_key}\n")
        options = ["BatchMode=yes", "StrictHostKeyChecking=yes", "IdentitiesOnly=yes"]
        options += [f"UserKnownHostsFile={known}", "ConnectTimeout=5"]
        words = ["ssh", "-F", "none", "-i", str(key), "-p", str(address.port)]
        return words + [word for option in options for word in ("-o", option)]


@dataclass(frozen=True)
class Session:
    """The attacker's open connection."""

    control: Path
    host: str

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """`command` over the connection that is open; it makes no other one."""
        argv = ["ssh", "-F", "none", "-S", str(self.control), "-o", "ProxyCommand=false"]
        argv += [f"root@{self.host}", command]
        return subprocess.run(argv, capture_output=True, text=True, timeout=600, check=False)
