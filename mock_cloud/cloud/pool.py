# SPDX-License-Identifier: GPL-2.0-or-later
"""Getting a node for a build: a warm one if there is one, else a new one within the limits."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from mock_cloud.cloud.claim import (
    Choice,
    Create,
    Evict,
    Join,
    Take,
    Wait,
    Wish,
    choose,
    describe_end,
    find_lost,
    is_unneeded,
)
from mock_cloud.cloud.jobs import JobRecord
from mock_cloud.cloud.journal import Journal
from mock_cloud.cloud.lease import Guest, Holder, Lease, LeaseState, Sharing, releasing
from mock_cloud.cloud.leased import LeasedNode, end_lease
from mock_cloud.cloud.making import find_price, intend, make_node
from mock_cloud.cloud.provider import NodesTaken, OnPhase, Provider
from mock_cloud.cloud.providers import find_provider
from mock_cloud.errors import ChrootGone, ChrootLocked, CloudError, MockCloudError
from mock_cloud.settings import CloudSettings, Ec2Settings, Market, Remote

_LOOK_EVERY_S: Final = 0.2
_ASK_EVERY_S: Final = 2.0
"""How often hosts are asked whether others are done; the journal is looked at more often."""


def acquire(  # noqa: PLR0913
    remote: Remote,
    chroot: str,
    *,
    state_dir: Path,
    deadline_s: float,
    arch: str,
    on_phase: OnPhase = lambda phase: None,
    fresh: bool = False,
    kept: bool = False,
    discards: bool = False,
    shares: bool = False,
    toolkit: str = "",
) -> LeasedNode:
    """A node of `remote` to work in `chroot`, waiting at most `deadline_s` seconds.

    `arch` is the node's architecture, one of the remote's.
    The node on which the chroot lives comes first, then any warm one, then a new one. `fresh`:
    the build makes the chroot anew, so another node will do if its home is at work. `kept`: no
    node but its home will do. `discards`: the command does away with what is in the chroot.
    Unless `fresh` or `discards`, ChrootGone is raised for a chroot whose node has ended. `shares`:
    it can work beside another command in the chroot: see `LeasedNode.beside`.
    `toolkit` is the digest of what will be pushed: a node that holds another one would be
    refused, so it is not taken. `on_phase` is told what happens, in a few words. CloudError,
    ConfigError; ChrootLocked at once if a living process works in this chroot and none can join.
    """
    journal = Journal(state_dir)
    pool = _Pool(journal, find_provider(remote.provider, state_dir, remote), remote, on_phase)
    wish = Wish(
        remote=remote.name,
        owner=journal.owner,
        settings=settings_digest(remote, arch, toolkit),
        chroot=chroot,
        fresh=fresh,
        max_nodes=remote.lease.max_nodes,
        arch=arch,
        kept=kept,
        discards=discards,
        shares=shares,
    )
    deadline = time.monotonic() + deadline_s
    price: float | None = None
    told = False
    while True:
        choice, lease = _claim(journal, remote, wish, price)
        got: LeasedNode | Wait | NodesTaken | None = None
        if isinstance(choice, Join | Take) and lease is not None:
            got = pool.take(lease, choice)
        elif isinstance(choice, Create) and lease is not None:
            got = pool.create(lease, deadline)
        elif isinstance(choice, Create):
            price = find_price(remote, pool.provider, arch)
        elif isinstance(choice, Evict):
            is_left = f"that has job {choice.lease.job}, which nobody follows"
            what = is_left if choice.lease.is_left else "that is idle"
            on_phase(f"replacing a node {what}{_with_chroots(choice.lease)}")
            pool.end(choice.lease.id)
        elif isinstance(choice, Wait):
            got = choice
        if isinstance(got, LeasedNode):
            return got
        if got is not None:
            if not told:
                on_phase(f"waiting for a node: {_holders(got)}")
                told = True
            pool.end_what_nobody_holds()
            _wait(got, remote, deadline)


def take_up(remote: Remote, job: JobRecord, state_dir: Path) -> LeasedNode:
    """The node of a job that nobody follows any more, which this process follows from now on.

    ChrootLocked where somebody does; ChrootGone where the job's node has ended. CloudError.
    """
    journal = Journal(state_dir)
    with journal.transaction() as books:
        lease, now = books.find(job.lease), books.find_job(job.id)
        if lease is None or lease.job != job.id or lease.state is not LeaseState.BUSY:
            raise ChrootGone(f"the node of job {job.id} {describe_end(lease)}")
        if lease.held or (now is not None and now.is_followed):
            raise ChrootLocked(f"job {job.id} is followed by process {job.holder.pid}")
        lease = replace(lease, holder=Holder.me(), idle_since_unix=None)
        books.write(lease)
        books.write_job(replace(job, holder=Holder.me()))
    provider = find_provider(remote.provider, state_dir, remote)
    return LeasedNode(lease, journal, provider, max_builds=remote.lease.max_builds, adopted=False)


@dataclass(frozen=True, slots=True)
class _Pool:
    """The nodes of one remote: what each step of getting one shares."""

    journal: Journal
    provider: Provider
    remote: Remote
    on_phase: OnPhase

    def take(self, lease: Lease, choice: Join | Take) -> LeasedNode | None:
        """The node of a warm lease that is ours by now, or that we may use beside its holder.

        None if it is not there any more.
        """
        if isinstance(choice, Join):
            self.on_phase("joining the command that uses the chroot")
            return self._leased(lease, adopted=False, beside=lease.sharing.job)
        if self._seems_to_run(lease):
            self.on_phase("using a warm node")
            return self._leased(lease, adopted=choice.lease.abandoned)
        self.end(lease.id)
        return None

    def create(self, lease: Lease, deadline: float) -> LeasedNode | NodesTaken | None:
        """A new node for an intended lease; None if room was made, and it may be tried again."""
        self.on_phase("creating a node")
        timeout_s = max(0.1, deadline - time.monotonic())
        try:
            lease = make_node(lease, self.journal, self.provider, timeout_s, self.on_phase)
        except NodesTaken as taken:
            return None if self._make_room(taken) else taken
        return self._leased(lease, adopted=False)

    def end(self, lease_id: str) -> None:
        """End a lease; what hinders it is noted in the journal, and keeps no build from a node."""
        try:
            end_lease(self.journal, self.provider, lease_id)
        except MockCloudError as error:
            self.on_phase(f"node {lease_id} could not be ended: {error.message}")

    def end_what_nobody_holds(self) -> None:
        """End leases of ours that are due, of which each keeps a caller waiting."""
        ours = (self.remote.name, self.journal.owner)
        for lease in self.journal.leases():
            due = (lease.remote, lease.owner) == ours and not lease.held
            if due and lease.may_be_ended(time.time()) and self.journal.find_due(lease.id):
                self.end(lease.id)

    def _seems_to_run(self, lease: Lease) -> bool:
        """Whether the node of a warm lease is worth a connection.

        A cloud that gives no answer takes no node away: whether it runs will be seen.
        """
        try:
            return self.provider.is_running(lease.id, lease.handle)
        except CloudError as error:
            self.on_phase(f"is the warm node there? {error.message}")
            return True

    def _make_room(self, taken: NodesTaken) -> bool:
        """End one lease of ours that holds a node which nobody uses; whether there was one."""
        with self.journal.transaction() as books:
            held = [lease for lease in map(books.find, taken.leases) if lease is not None]
            idle = [one for one in held if is_unneeded(one)] or [one for one in held if one.is_left]
            ours = [one for one in idle if one.owner == self.journal.owner][:1]
            for lease in ours:
                books.write(releasing(lease))
        for lease in ours:
            self.end(lease.id)
        return bool(ours)

    def _leased(self, lease: Lease, *, adopted: bool, beside: str = "") -> LeasedNode:
        max_builds = self.remote.lease.max_builds
        return LeasedNode(
            lease, self.journal, self.provider, max_builds=max_builds, adopted=adopted,
            beside=beside,
        )  # fmt: skip


def _holders(wait: Wait | NodesTaken) -> str:
    return wait.message if isinstance(wait, NodesTaken) else "; ".join(wait.holders)


def settings_digest(remote: Remote, arch: str, toolkit: str = "") -> str:
    """Digest (hex) of all that shapes a node: another digest, another node.

    The image tree and the manifest count as they are on disk now, by inode and times.
    """
    node = remote.nodes.get(arch)
    manifest = remote.attest.manifest if node is None or node.manifest is None else node.manifest
    # What `repr` shows has no secrets in it: another password is no other node.
    shape = (
        remote.provider,
        toolkit,
        arch,
        remote.attest,
        remote.local,
        _as_bought_on_demand(remote.cloud),
        node,
        remote.hosts,
        _identity(manifest),
        [_identity(host.manifest) for host in remote.hosts if host.manifest is not None],
        None if remote.local is None else _identity(remote.local.image),
    )
    return hashlib.sha256(repr(shape).encode()).hexdigest()


def _as_bought_on_demand(cloud: CloudSettings | None) -> CloudSettings | None:
    """How a node was bought does not shape it: what a retry bought on demand serves the next."""
    if isinstance(cloud, Ec2Settings):
        return replace(cloud, market=Market.ON_DEMAND)
    return cloud


def _identity(path: Path | None) -> list[int] | None:
    if path is None:
        return None
    try:
        facts = path.stat()
    except OSError:
        return None
    return [facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns]


def _claim(
    journal: Journal, remote: Remote, wish: Wish, price: float | None
) -> tuple[Choice, Lease | None]:
    """Choose and, in the same transaction, put our name on what was chosen.

    Where a budget needs a `price` that is not known yet, nothing is claimed for Create.
    BudgetReached.
    """
    with journal.transaction() as books:
        leases = books.leases()
        choice = choose(leases, wish, time.time(), lost=find_lost(books.gone_homes(), wish))
        lease: Lease | None = None
        if isinstance(choice, Join):
            sharing = choice.lease.sharing
            guests = (*sharing.guests, Guest(Holder.me()))
            lease = replace(choice.lease, sharing=replace(sharing, guests=guests))
        elif isinstance(choice, Take):
            lease = replace(
                choice.lease,
                state=LeaseState.BUSY,
                holder=Holder.me(),
                idle_since_unix=None,
                builds=choice.lease.builds + 1,
                chroot=wish.chroot,
                sharing=Sharing(),
                job="",
            )
        elif isinstance(choice, Create):
            if remote.budget is None or price is not None:
                lease = intend(books, remote, wish, price)
        elif isinstance(choice, Evict):
            books.write(releasing(choice.lease))
        if lease is not None:
            for other in (*leases, *books.gone_homes()):
                # A chroot made anew elsewhere lives there from now on.
                if other.id != lease.id and _knows(other, wish):
                    left = tuple(name for name in other.chroots if name != wish.chroot)
                    books.write(replace(other, chroots=left))
            books.write(lease)
        return choice, lease


def _wait(wait: Wait | NodesTaken, remote: Remote, deadline: float) -> None:
    if time.monotonic() >= deadline:
        if isinstance(wait, NodesTaken):
            raise wait
        raise CloudError(
            f"no node of remote {remote.name} became free: " + "; ".join(wait.holders),
            hint="try again later, or raise [lease] max_nodes in the remote's file",
        )
    time.sleep(_ASK_EVERY_S if isinstance(wait, NodesTaken) else _LOOK_EVERY_S)


def _with_chroots(lease: Lease) -> str:
    return f", with chroot {' and '.join(lease.chroots)} on it" if lease.chroots else ""


def _knows(lease: Lease, wish: Wish) -> bool:
    return (lease.remote, lease.owner) == (wish.remote, wish.owner) and wish.chroot in lease.chroots
