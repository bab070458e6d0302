# SPDX-License-Identifier: GPL-2.0-or-later
"""What the steps of one command share: each reads what earlier ones set, and sets its own part.

A field without a default is not there before its step: see `mock_cloud.session`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING

from mock_cloud.console import Console
from mock_cloud.results.staging import PlacedFiles
from mock_cloud.settings import Remote, SecondLook
from mock_cloud.wire.dataclass import dataclass

# SSH, verdicts and clouds take longer to load than all that step 1 does, which refuses much.
if TYPE_CHECKING:
    from mock_cloud.attest.envelope import Signer
    from mock_cloud.cloud.jobs import JobRecord
    from mock_cloud.cloud.leased import LeasedNode
    from mock_cloud.config.defaults import ConfigOpts
    from mock_cloud.invocation.model import CommandLine
    from mock_cloud.model import Toolkit
    from mock_cloud.provenance.owner import OwnerSignature
    from mock_cloud.remote.unverified import UnverifiedNode
    from mock_cloud.results.resultdir import ResultDir
    from mock_cloud.steps.attest.attesting import Archive, Attested
    from mock_cloud.steps.attest.hardening import Hardening, HostKeys
    from mock_cloud.steps.attest.known_good_sets import KnownGood
    from mock_cloud.steps.check.chosen_engine import Engine
    from mock_cloud.steps.check.request import ChrootShadow, Work
    from mock_cloud.steps.job.connection import LastingConnection
    from mock_cloud.steps.results.builddir_copy import BuilddirCopy
    from mock_cloud.steps.results.mirror import Mirror
    from mock_cloud.steps.send.repo_tunnel import Tunnel
    from mock_cloud.toolkit.mock_kit import MockProgram

OnResults = Callable[[Path, tuple[Path, ...]], None]
"""Told the directory of results and the files that arrived in it, once they are in place."""


@dataclass(slots=True, kw_only=True)
class NodeUse:
    """One command's use of one node of `remote`: what is needed to lease, reach and judge it.

    `toolkit` and `archive` are what is pushed to it, and where this user's state is. `known` is
    what it is judged by; `node` is the connection to it, replaced when it is lost.
    """

    remote: Remote
    console: Console
    arch: str = ""
    toolkit: Toolkit = field(init=False)
    archive: Archive = field(init=False)
    leased: LeasedNode = field(init=False)
    known: KnownGood = field(init=False)
    node: UnverifiedNode = field(init=False)

    def tell(self, phase: str) -> None:
        """Say what happens with the node: a wait in a line of its own."""
        show = self.console.info if phase.startswith("waiting") else self.console.phase
        show(f"remote {self.remote.name}: {phase}")


@dataclass(slots=True, kw_only=True)
class Build(NodeUse):
    """One invocation of mock on its way to a node and back.

    Step 1 sets `work`, which is for `engine`, and where results go; in a command that takes up the
    job of another one there is no `work`. Steps 2 to 5 are done again on another node if one fails:
    `has_begun` says that the job may run by now, `early` has what was published before its end.
    `row` is what the journal has of the job, if it `is_kept` there: another command can take it up
    then. Without a `signer` nothing is signed.
    """

    line: CommandLine = field(init=False)
    opts: ConfigOpts = field(init=False)
    program: MockProgram | None = None
    on_results: OnResults = lambda directory, placed: None
    started_unix: float = field(default_factory=time.time)
    # 1
    engine: Engine = field(init=False)
    checked_for: str = ""
    """The remote whose engine and architecture these are."""
    work: Work | None = None
    shadow: ChrootShadow | None = None
    builddir: BuilddirCopy | None = None
    resultdir: ResultDir = field(init=False)
    signer: Signer | None = None
    # 3
    attested: Attested | None = None
    layers: Mapping[str, str] = field(default_factory=dict)
    hardening: Hardening | None = None
    host_keys: HostKeys = field(init=False)
    # 4
    mirror: Mirror = field(init=False)
    connection: LastingConnection = field(init=False)
    tunnel: Tunnel | None = None
    # 5
    row: JobRecord = field(init=False)
    is_kept: bool = False
    has_begun: bool = False
    early: PlacedFiles = field(default_factory=PlacedFiles)
    # 6
    owner_signature: OwnerSignature | None = None
    placed: list[Path] = field(default_factory=list)

    @property
    def found_node(self) -> LeasedNode | None:
        """The node, once step 2 has got one."""
        return self.leased if hasattr(self, "leased") else None

    def on_node_of(self, remote: Remote) -> Build:
        """What step 1 found, for another try on a node of `remote`."""
        attempt = copy(self)
        attempt.remote, attempt.started_unix, attempt.placed = remote, time.time(), []
        attempt.early = PlacedFiles()
        return attempt

    @property
    def lets_others_in(self) -> bool:
        """Whether other commands may work in the chroot meanwhile, once its engine lets them.

        Not with a shadow of it here, which is one command's; and a second look wants a quiet node.
        """
        return self.shadow is None and self.remote.attest.second_look is not SecondLook.ALWAYS

    @property
    def grace_s(self) -> float:
        """How long a job waits for a controller that is not heard of; nobody takes up kojid's."""
        is_kojis = self.work is not None and self.work.line.is_kojis
        return self.leased.idle_ttl_s if is_kojis else self.remote.lease.grace_s

    @property
    def job(self) -> str:
        """The job's name."""
        return self.row.id

    @property
    def planned(self) -> Work:
        """The work of a command that did not take up another one's job."""
        if self.work is None:
            raise ValueError("a job that was taken up has no work")
        return self.work
