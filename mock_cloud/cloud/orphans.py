# SPDX-License-Identifier: GPL-2.0-or-later
"""Finding what crashed controllers left: leases without a node, nodes without a lease.

Nothing of another owner is ever touched, nor what a living process of this machine holds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import Final

from mock_cloud.cloud.journal import Journal
from mock_cloud.cloud.lease import Lease, find_due
from mock_cloud.cloud.leased import end_lease
from mock_cloud.cloud.owner import is_same_user
from mock_cloud.cloud.provider import FoundNode, Provider
from mock_cloud.cloud.providers import ON_THIS_MACHINE, find_provider
from mock_cloud.errors import CloudError, MockCloudError
from mock_cloud.settings import Remote
from mock_cloud.wire.dataclass import dataclass

_CLOCKS_DIFFER_S: Final = 600.0
"""A tag was written by another state directory's clock: by so much it may be ahead of ours."""


@dataclass(frozen=True, slots=True)
class Reaped:
    """One thing that was ended, and why; `error` says what hindered it, if anything did."""

    lease_id: str
    remote: str
    reason: str
    error: str | None = None

    def tell(self, inform: Callable[[str], None], warn: Callable[[str], None]) -> None:
        """Say what became of it."""
        if self.error is None:
            inform(f"node {self.lease_id} was ended: {self.reason}")
        else:
            warn(f"node {self.lease_id} was not ended: {self.error}")


@dataclass(frozen=True, slots=True)
class Orphan:
    """One node or lease that is to end. `found` is the node, where no living lease names it."""

    lease_id: str
    remote: str
    reason: str
    found: FoundNode | None = None


@dataclass(frozen=True, slots=True)
class FoundOrphans:
    """What a provider's listing shows that is to end. With `dry_run` nothing of it is ended."""

    journal: Journal
    provider: Provider
    orphans: tuple[Orphan, ...]
    dry_run: bool

    def end(self, ended: Container[str] = ()) -> list[Reaped]:
        """End it, apart from what was `ended` since, by the listing of another remote."""
        if self.dry_run:
            return [Reaped(one.lease_id, one.remote, one.reason) for one in self.orphans]
        return [
            _end(self.journal, self.provider, one)
            for one in self.orphans
            if one.lease_id not in ended and _claim(self.journal, self.provider, one)
        ]


def reap_local(state_dir: Path) -> list[Reaped]:
    """End local nodes that are over, and forget old leases. Asks no cloud.

    What could not be ended is reported and left for the next one.
    """
    journal = Journal(state_dir)
    reaped = []
    for name in ON_THIS_MACHINE:
        provider = find_provider(name, state_dir, None)
        reaped += reap_provider(
            journal,
            provider,
            lambda lease: lease.provider in ON_THIS_MACHINE,
            unowned_is_ours=True,
        )
    journal.forget_old()
    return reaped


def reap_remote(
    remote: Remote, state_dir: Path, *, with_lost_state: bool = False, dry_run: bool = False
) -> list[Reaped]:
    """End what is over of `remote`, by what its provider lists. CloudError, ConfigError.

    `with_lost_state`: also nodes of this user on this machine whose state directory was lost, once
    their own expiry has passed. `dry_run`: say it only.
    """
    found = ask_remote(remote, state_dir, with_lost_state=with_lost_state, dry_run=dry_run)
    return found.end()


def ask_remote(
    remote: Remote, state_dir: Path, *, with_lost_state: bool = False, dry_run: bool = False
) -> FoundOrphans:
    """What `reap_remote` would end, and ends when it is told so. CloudError, ConfigError."""
    wanted = (remote.provider, remote.name)
    return _ask_provider(
        Journal(state_dir),
        find_provider(remote.provider, state_dir, remote),
        lambda lease: (lease.provider, lease.remote) == wanted,
        unowned_is_ours=remote.provider in ON_THIS_MACHINE,
        with_lost_state=with_lost_state,
        dry_run=dry_run,
    )


def reap_provider(
    journal: Journal,
    provider: Provider,
    is_asked: Callable[[Lease], bool],
    *,
    unowned_is_ours: bool = False,
    with_lost_state: bool = False,
    dry_run: bool = False,
) -> list[Reaped]:
    """End what is over among the leases asked for and the nodes that `provider` lists.

    CloudError if it cannot list them.
    """
    found = _ask_provider(
        journal,
        provider,
        is_asked,
        unowned_is_ours=unowned_is_ours,
        with_lost_state=with_lost_state,
        dry_run=dry_run,
    )
    return found.end()


def _ask_provider(
    journal: Journal,
    provider: Provider,
    is_asked: Callable[[Lease], bool],
    *,
    unowned_is_ours: bool,
    with_lost_state: bool,
    dry_run: bool,
) -> FoundOrphans:
    before = [lease for lease in journal.leases() if is_asked(lease)]
    found = provider.list_nodes()
    if not dry_run:
        journal.note_abandoned()
    orphans = find_orphans(
        before,
        found,
        {lease.id: lease for lease in journal.leases()},
        owner=journal.owner,
        now_unix=time.time(),
        unowned_is_ours=unowned_is_ours,
        with_lost_state=with_lost_state,
    )
    return FoundOrphans(journal, provider, tuple(orphans), dry_run)


def find_due_leases(state_dir: Path) -> list[Orphan]:
    """This owner's leases, local ones apart, of which the journal says that they are to end now.

    Nobody is asked, and what failed to end just now is left out. The grace of an abandoned
    lease begins when this first sees it.
    """
    journal = Journal(state_dir)
    due = []
    for lease in journal.leases():
        ours = lease.owner == journal.owner and lease.provider not in ON_THIS_MACHINE
        if ours and not lease.held and lease.may_be_ended(time.time()):
            reason = journal.find_due(lease.id)
            if reason is not None:
                due.append(Orphan(lease.id, lease.remote, reason))
    return due


def end_due(remote: Remote, state_dir: Path, due: Sequence[Orphan]) -> list[Reaped]:
    """End leases of `remote` that `find_due_leases` found, without listing anything.

    One that was begun and whose creator died is ended by its tag. CloudError, ConfigError.
    """
    journal = Journal(state_dir)
    provider = find_provider(remote.provider, state_dir, remote)
    reaped = []
    for one in due:
        lease = journal.find(one.lease_id)
        if lease is None or not journal.claim_end(lease):
            continue  # another process was faster
        if lease.provider == remote.provider:
            reaped.append(_end(journal, provider, one))
        else:
            problem = f"{remote.source} is for provider {remote.provider} now"
            journal.note_end_failed(lease.id, problem)
            reaped.append(Reaped(one.lease_id, one.remote, one.reason, problem))
    return reaped


def find_orphans(
    before: Sequence[Lease],
    found: Sequence[FoundNode],
    after: Mapping[str, Lease],
    *,
    owner: str,
    now_unix: float,
    unowned_is_ours: bool = False,
    with_lost_state: bool = False,
) -> list[Orphan]:
    """What is to end, of leases `before` a listing, `found` by it, and all leases `after` it.

    In this order: a lease is journalled before its node exists, so a node found now has a
    lease among those read later, and a lease read before has its node among the found, or will.
    `unowned_is_ours`: all that the provider lists is in our state directory, whatever its tags.
    """
    running = {node.lease_id for node in found if node.running}
    orphans = []
    for lease in before:
        current = after.get(lease.id)
        if current is None or current.owner != owner or current.held:
            continue
        reason = find_due(current, now_unix)
        if reason is None and lease.id not in running:
            reason = "its node is gone"
        if reason is not None:
            orphans.append(Orphan(lease.id, lease.remote, reason))
    for node in found:
        if node.lease_id in after:
            continue
        if node.owner == owner or (unowned_is_ours and not node.owner):
            orphans.append(Orphan(node.lease_id, node.remote, "no lease names it", node))
        elif with_lost_state and is_same_user(owner, node.owner) and _has_expired(node, now_unix):
            reason = f"it expired, and {node.owner} did not end it"
            orphans.append(Orphan(node.lease_id, node.remote, reason, node))
    return orphans


def _has_expired(node: FoundNode, now_unix: float) -> bool:
    return node.expires_unix is not None and node.expires_unix + _CLOCKS_DIFFER_S < now_unix


def _claim(journal: Journal, provider: Provider, orphan: Orphan) -> bool:
    """Whether it is still one, and ours to end: other commands worked on meanwhile."""
    if orphan.found is not None:
        return True  # ids are never used twice: no lease will name it any more
    lease = journal.find(orphan.lease_id)
    if lease is None:
        return False
    if find_due(lease, time.time()) is None and _still_runs(provider, lease):
        return False  # some APIs list a node only a while after they made it
    return journal.claim_end(lease)


def _still_runs(provider: Provider, lease: Lease) -> bool:
    try:
        return provider.is_running(lease.id, lease.handle)
    except CloudError:
        return True


def _end(journal: Journal, provider: Provider, orphan: Orphan) -> Reaped:
    try:
        if orphan.found is not None:
            provider.destroy(orphan.lease_id, orphan.found.handle)
        else:
            end_lease(journal, provider, orphan.lease_id)
    except MockCloudError as error:
        return Reaped(orphan.lease_id, orphan.remote, orphan.reason, error.message)
    return Reaped(orphan.lease_id, orphan.remote, orphan.reason)
