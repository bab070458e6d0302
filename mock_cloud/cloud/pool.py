# SPDX-License-Identifier: GPL-2.0-or-later
"""Getting a node for a build: a warm one if there is one, else a new one within the limits."""

from __future__ import annotations

import hashlib
import time
from contextlib import closing
from dataclasses import field, replace
from pathlib import Path
from typing import Final

from mock_cloud.cloud.claim import (
    Choice,
    Create,
    Evict,
    Join,
    LeaseRequest,
    Take,
    Wait,
    choose,
    describe_end,
    find_lost,
    is_unneeded,
)
from mock_cloud.cloud.jobs import JobRecord
from mock_cloud.cloud.journal import Journal, Transaction
from mock_cloud.cloud.lease import Guest, Holder, Lease, LeaseState, Sharing, releasing
from mock_cloud.cloud.leased import LeasedNode, end_lease
from mock_cloud.cloud.making import find_price, intend, make_node
from mock_cloud.cloud.provider import HostSilent, NodesTaken, OnPhase, Provider
from mock_cloud.cloud.providers import find_provider
from mock_cloud.cloud.tickets import Ticket
from mock_cloud.errors import ChrootGone, ChrootLocked, CloudError, MockCloudError
from mock_cloud.settings import CloudSettings, Ec2Settings, Market, Remote
from mock_cloud.wire.dataclass import dataclass

_LOOK_EVERY_S: Final = 0.2
_LOOK_AT_LEAST_EVERY_S: Final = 15.0
"""How often the journal is looked at by who is first in the queue; the second looks half as often,
and so on, so that a long queue costs little more than a short one."""
_CLAIM_AT_LEAST_EVERY_S: Final = 300.0
"""So often who is not first looks at leases too: his chroot may be on a node, or locked by now."""
_ASK_EVERY_S: Final = 2.0
"""How often hosts are asked whether others are done."""


def acquire(
    remote: Remote,
    request: LeaseRequest,
    *,
    state_dir: Path,
    deadline_s: float,
    on_phase: OnPhase = lambda phase: None,
) -> LeasedNode:
    """A node of `remote` as `request` wants it, waiting for one as long as its `wait` says.

    Those that wait are served in turn. A new node is made within `deadline_s` seconds.
    The node on which the chroot lives comes first, then any warm one, then a new one. Where the
    chroot is `fresh`, another node will do if its home is at work; where it is `kept`, no other.
    Unless it is `fresh` or discarded, ChrootGone is raised for a chroot whose node has ended. A
    node that the command `shares`: see `LeasedNode.beside`. `on_phase` is told what happens, in a
    few words. CloudError, ConfigError; ChrootLocked at once if a living process works in this
    chroot and none can join.
    """
    journal = Journal(state_dir)
    pool = _Pool(journal, find_provider(remote.provider, state_dir, remote), remote, on_phase)
    request = replace(
        request,
        remote=remote.name,
        owner=journal.owner,
        settings=settings_digest(remote, request.arch, request.toolkit),
        max_nodes=remote.lease.max_nodes,
    )
    turn = _Turn(journal, remote, request, on_phase)
    with closing(turn):
        while True:
            choice, lease = turn.claim()
            got: LeasedNode | Wait | NodesTaken | None = None
            if isinstance(choice, Join | Take) and lease is not None:
                got = pool.take(lease, choice)
            elif isinstance(choice, Create) and lease is not None:
                got = pool.create(lease, deadline_s)
            elif isinstance(choice, Create):
                turn.price = find_price(remote, pool.provider, request.arch)
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
                turn.tell(got)
                if turn.is_first:
                    pool.end_what_nobody_holds()
                turn.wait(got)


def reclaim(remote: Remote, job: JobRecord, state_dir: Path) -> LeasedNode:
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

    def create(self, lease: Lease, timeout_s: float) -> LeasedNode | NodesTaken | None:
        """A new node for an intended lease; None if room was made, and it may be tried again."""
        self.on_phase("creating a node")
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
        """End this owner's leases that are due, of which each keeps a caller waiting."""
        ours = (self.remote.name, self.journal.owner)
        for lease in self.journal.leases():
            due = (lease.remote, lease.owner) == ours and not lease.held
            if due and lease.may_be_ended(time.time()) and self.journal.find_due(lease.id):
                self.end(lease.id)

    def _seems_to_run(self, lease: Lease) -> bool:
        """Whether the node of a warm lease is worth a connection.

        A cloud that gives no answer takes no node away: whether it runs will be seen. A machine
        that gives none itself is not waited for.
        """
        try:
            return self.provider.is_running(lease.id, lease.handle)
        except HostSilent:
            return False
        except CloudError as error:
            self.on_phase(f"is the warm node there? {error.message}")
            return True

    def _make_room(self, taken: NodesTaken) -> bool:
        """End one of this owner's leases whose node nobody uses; whether there was one."""
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


@dataclass(slots=True)
class _Turn:
    """One command's way to a node: what it claims, and its place in the queue until it may.

    `price` is a node's, once a budget needs it.
    """

    journal: Journal
    remote: Remote
    request: LeaseRequest
    on_phase: OnPhase
    price: float | None = None
    _began_s: float = field(default_factory=time.monotonic)
    _ticket: Ticket | None = None
    _place: int = 1
    _told: int = 0
    _claimed_s: float = 0.0

    @property
    def is_first(self) -> bool:
        """Whether no other command gets a node before this one."""
        return self._place == 1

    def claim(self) -> tuple[Choice, Lease | None]:
        """Choose and, in the same transaction, put our name on what was chosen, or on a ticket.

        Where a budget needs a price that is not known yet, nothing is claimed for Create.
        BudgetReached.
        """
        request = self.request
        with self.journal.transaction() as books:
            leases, queue = books.leases(), books.queue(request.remote, request.arch)
            ahead, lost = queue.count_ahead(self._ticket), find_lost(books.gone_homes(), request)
            choice = choose(leases, request, time.time(), lost=lost, is_first=not ahead)
            lease = self._claimed(choice, books)
            if lease is not None:
                for other in (*leases, *books.gone_homes()):
                    # A chroot made anew elsewhere lives there from now on.
                    if other.id != lease.id and _knows(other, request):
                        left = tuple(name for name in other.chroots if name != request.chroot)
                        books.write(replace(other, chroots=left))
                books.write(lease)
            # A lent machine may turn out to be another controller's: it is asked for in turn.
            asks = isinstance(choice, Create) and bool(self.remote.hosts)
            if asks or (isinstance(choice, Wait) and choice.queues):
                self._ticket = queue.wait(self._ticket)
            elif lease is not None or isinstance(choice, Wait):
                queue.leave(self._ticket)
                self._ticket = None
        self._place = 1 if self._ticket is None else ahead + 1
        self._claimed_s = time.monotonic()
        return choice, lease

    def _claimed(self, choice: Choice, books: Transaction) -> Lease | None:
        if isinstance(choice, Join):
            sharing = choice.lease.sharing
            guests = (*sharing.guests, Guest(Holder.me()))
            return replace(choice.lease, sharing=replace(sharing, guests=guests))
        if isinstance(choice, Take):
            return replace(
                choice.lease,
                state=LeaseState.BUSY,
                holder=Holder.me(),
                idle_since_unix=None,
                builds=choice.lease.builds + 1,
                chroot=self.request.chroot,
                sharing=Sharing(),
                job="",
            )
        if isinstance(choice, Create) and (self.remote.budget is None or self.price is not None):
            return intend(books, self.remote, self.request, self.price)
        if isinstance(choice, Evict):
            books.write(releasing(choice.lease))
        return None

    def tell(self, got: Wait | NodesTaken) -> None:
        """Say what is waited for, and later each new place in the queue."""
        if not self._told:
            where = f", place {self._place} in the queue" if self._place > 1 else ""
            self.on_phase(f"waiting for a node{where}: {_holders(got)}")
        elif self._place != self._told:
            self.on_phase(f"place {self._place} in the queue for a node")
        self._told = self._place

    def wait(self, got: Wait | NodesTaken) -> None:
        """Until the next claim. What `got` says as an error, once the remote's `wait` is over.

        Before its turn a command looks at its place only: leases are many, and it may have none.
        """
        while True:
            self._pause(got)
            is_old = time.monotonic() > self._claimed_s + _CLAIM_AT_LEAST_EVERY_S
            if self._ticket is None or self.is_first or is_old:
                return
            self._place = self.journal.count_ahead(self._ticket) + 1
            if self.is_first:
                return
            self.tell(got)

    def _pause(self, got: Wait | NodesTaken) -> None:
        pause_s = min(_LOOK_EVERY_S * self._place, _LOOK_AT_LEAST_EVERY_S)
        if isinstance(got, NodesTaken):
            pause_s = max(pause_s, _ASK_EVERY_S)
        is_short = isinstance(got, Wait) and got.is_short
        if self.remote.lease.wait_s is not None and not is_short:
            left_s = self._began_s + self.remote.lease.wait_s - time.monotonic()
            if left_s <= 0 and isinstance(got, NodesTaken):
                raise got
            if left_s <= 0:
                raise CloudError(
                    f"no node of remote {self.remote.name} became free: {_holders(got)}",
                    hint="try again later, or raise [lease] wait or max_nodes in the remote's file",
                )
            pause_s = min(pause_s, left_s)
        time.sleep(pause_s)

    def close(self) -> None:
        """Leave the queue."""
        if self._ticket is not None:
            self.journal.leave_queue(self._ticket)


def _holders(wait: Wait | NodesTaken) -> str:
    return wait.message if isinstance(wait, NodesTaken) else "; ".join(wait.holders)


def settings_digest(remote: Remote, arch: str, toolkit: str = "") -> str:
    """Digest (hex) of all that shapes a node: another digest, another node.

    Manifests count by their content, the image tree as it is on disk now: by inode and times.
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
        _content(manifest),
        [_content(host.manifest) for host in remote.hosts if host.manifest is not None],
        None if remote.local is None else _identity(remote.local.image),
    )
    return hashlib.sha256(repr(shape).encode()).hexdigest()


def _as_bought_on_demand(cloud: CloudSettings | None) -> CloudSettings | None:
    """How a node was bought does not shape it: what a retry bought on demand serves the next."""
    if isinstance(cloud, Ec2Settings):
        return replace(cloud, market=Market.ON_DEMAND)
    return cloud


def _content(path: Path | None) -> str | None:
    """A file's digest: in a container the same file has another device number each time."""
    if path is None:
        return None
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def _identity(path: Path) -> list[int] | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return [facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns]


def _with_chroots(lease: Lease) -> str:
    return f", with chroot {' and '.join(lease.chroots)} on it" if lease.chroots else ""


def _knows(lease: Lease, request: LeaseRequest) -> bool:
    is_ours = (lease.remote, lease.owner) == (request.remote, request.owner)
    return is_ours and request.chroot in lease.chroots
