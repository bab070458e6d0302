# SPDX-License-Identifier: GPL-2.0-or-later
"""What `mock-cloud nodes` shows and `mock-cloud release` does, as data."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path

from mock_cloud.cloud.claim import describe
from mock_cloud.cloud.journal import Journal
from mock_cloud.cloud.lease import BEFORE_NODE, Lease, LeaseState
from mock_cloud.cloud.leased import end_lease
from mock_cloud.cloud.providers import find_provider
from mock_cloud.errors import InputError, MockCloudError


@dataclass(frozen=True, slots=True)
class NodeRow:
    """One lease as a listing shows it. Times are unix seconds, durations seconds.

    `ends_unix` is when it ends if nobody uses it again.
    `state` is the lease's, or ``abandoned`` if its holder died. `holder_pid` is the process at
    work, 0 for none.
    """

    lease: str
    remote: str
    provider: str
    owner: str
    state: str
    address: str
    chroots: tuple[str, ...]
    holder_pid: int
    builds: int
    created_unix: float
    expires_unix: float
    ends_unix: float
    idle_s: float | None

    def to_json(self) -> dict[str, object]:
        """The row with JSON's types, keys as named here."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True)
class Released:
    """What became of one lease; `problem` says why it was not released, None if it was."""

    lease: str
    remote: str
    problem: str | None


def list_rows(state_dir: Path) -> list[NodeRow]:
    """All leases that are not gone, oldest first."""
    now = time.time()
    return [_row(lease, now) for lease in Journal(state_dir).leases()]


def release(state_dir: Path, target: str | None, *, force: bool = False) -> list[Released]:
    """End the nodes of remote or lease `target`, or all of ours for None.

    A node at which a living process works is left alone unless `force`. InputError if `target`
    names nothing of ours.
    """
    journal = Journal(state_dir)
    owner = journal.owner
    chosen = [
        lease
        for lease in journal.leases()
        if lease.owner == owner and target in (None, lease.id, lease.remote)
    ]
    if not chosen and target is not None:
        raise InputError(
            f"no node of yours belongs to a remote or lease {target!r}",
            hint="mock-cloud nodes lists them",
        )
    return [_release(journal, state_dir, lease, force=force) for lease in chosen]


def _release(journal: Journal, state_dir: Path, lease: Lease, *, force: bool) -> Released:
    if lease.held and not force:
        return Released(lease.id, lease.remote, f"in use: {describe(lease)}")
    try:
        end_lease(journal, find_provider(lease.provider, state_dir, None), lease.id)
    except MockCloudError as error:
        return Released(lease.id, lease.remote, error.message)
    return Released(lease.id, lease.remote, None)


def _row(lease: Lease, now_unix: float) -> NodeRow:
    working = lease.state is LeaseState.BUSY or lease.state in BEFORE_NODE
    abandoned = working and not lease.held
    idle_since = lease.idle_since_unix
    return NodeRow(
        lease=lease.id,
        remote=lease.remote,
        provider=lease.provider,
        owner=lease.owner,
        state="abandoned" if abandoned else lease.state.value,
        address="" if lease.address is None else str(lease.address),
        chroots=lease.chroots,
        holder_pid=lease.holder.pid if lease.holder and lease.held else 0,
        builds=lease.builds,
        created_unix=lease.created_unix,
        expires_unix=lease.expires_unix,
        ends_unix=_end(lease),
        idle_s=None if idle_since is None else max(0.0, now_unix - idle_since),
    )


def _end(lease: Lease) -> float:
    if lease.held or lease.idle_since_unix is None:
        return lease.expires_unix
    return min(lease.expires_unix, lease.idle_since_unix + lease.idle_ttl_s)
