# SPDX-License-Identifier: GPL-2.0-or-later
"""Finding what crashed controllers left: leases without a node, nodes without a lease."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mock_cloud.cloud.journal import Journal
from mock_cloud.cloud.lease import Lease
from mock_cloud.cloud.leased import end_lease
from mock_cloud.cloud.provider import FoundNode, Provider
from mock_cloud.cloud.providers import NAMES, find_provider
from mock_cloud.errors import MockCloudError


@dataclass(frozen=True, slots=True)
class Swept:
    """One thing a sweep ended, and why; `error` says what hindered it, if anything did."""

    lease_id: str
    remote: str
    reason: str
    error: str | None = None


def sweep(state_dir: Path) -> list[Swept]:
    """End what is over: expired or abandoned leases, dead nodes, nodes that no lease names.

    Touches nothing of another owner, and no node that a living process holds. What could
    not be ended is reported and left for the next sweep.
    """
    journal = Journal(state_dir)
    swept = []
    for name in NAMES:
        provider = find_provider(name, state_dir, None)
        # In this order: a lease is journalled before its node exists, so a node found now has
        # a lease among those read later, and a lease read before has its node among the found.
        before = [lease for lease in journal.leases() if lease.provider == name]
        found = provider.list_nodes()
        after = {lease.id: lease for lease in journal.leases()}
        for lease_id, remote, reason in _over(journal, before, found, after):
            swept.append(_end(journal, provider, lease_id, remote, reason))
    journal.forget_old()
    return swept


def _over(
    journal: Journal, before: list[Lease], found: Sequence[FoundNode], after: dict[str, Lease]
) -> list[tuple[str, str, str]]:
    owner = journal.owner
    running = {node.lease_id for node in found if node.running}
    over = []
    for lease in before:
        current = after.get(lease.id)
        if current is None or current.owner != owner or (current.held and lease.id in running):
            continue
        reason = journal.find_due(lease.id)
        if reason is None and not current.held and lease.id not in running:
            reason = "its node is gone"
        if reason is not None:
            over.append((lease.id, lease.remote, reason))
    for node in found:
        if node.lease_id not in after and node.owner in (owner, ""):
            over.append((node.lease_id, "", "no lease names it"))
    return over


def _end(journal: Journal, provider: Provider, lease_id: str, remote: str, reason: str) -> Swept:
    try:
        end_lease(journal, provider, lease_id)
    except MockCloudError as error:
        return Swept(lease_id, remote, reason, error.message)
    return Swept(lease_id, remote, reason)
