# SPDX-License-Identifier: GPL-2.0-or-later
"""A node that this process holds: its address, its key, and giving it back."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import TracebackType

from mock_cloud.cloud.clock import ClockSteps
from mock_cloud.cloud.jobs import JobRecord
from mock_cloud.cloud.journal import Journal
from mock_cloud.cloud.lease import (
    Guest,
    Holder,
    LastVerdict,
    Lease,
    LeaseState,
    NextHostKey,
    Sharing,
    releasing,
)
from mock_cloud.cloud.provider import ExpectedMount, InjectedFile, Provider, host_key_files
from mock_cloud.errors import CleanupError, CloudError, MockCloudError
from mock_cloud.model import ClientKey, HostKey, KeyPair, NodeAddress, Secret

EndBeside = Callable[[Sequence[str]], None]
"""Starts a process that ends given up leases, and is not waited for. OSError if it cannot."""
_Update = tuple[Callable[[Lease], Lease], JobRecord | None]
"""A change of the lease's row, and the row of a job that goes with it."""


class LeasedNode:
    """The right of this process to use one node, until it gives the node back.

    `adopted` says that an earlier holder of the node died at work: one of its jobs may still run
    there. As a context manager it releases the node if the block ends well and destroys
    it if an exception leaves the block, unless one of both was done inside. `spared` is for
    the caller to set: then an exception leaves the node as it was found. So is `end_beside`: then
    ending the node is not waited for. `is_ended`: this process ended it; `is_ending`: it left that
    to another one. `beside` is the job of
    another command in the chroot, if this one was let in: then the node stays that one's. Whoever
    is the last there gives it back.
    """

    def __init__(
        self, lease: Lease, journal: Journal, provider: Provider, *, max_builds: int, adopted: bool,
        beside: str = "",
    ) -> None:  # fmt: skip
        if lease.address is None:
            raise ValueError("a lease without an address has no node")
        self.address: NodeAddress = lease.address
        self.adopted = adopted
        self.beside = beside
        self.spared = False
        self.is_forsaken = False
        self.is_ended = self.is_ending = False
        self.end_beside: EndBeside | None = None
        self._lease = lease
        self._journal = journal
        self._provider = provider
        self._max_builds = max_builds
        self._given_back = False
        self._clock, self._expires_unix = ClockSteps(), lease.expires_unix
        self._known_layers = lease.layers
        self._together: list[_Update] | None = None
        self._is_last = False
        """It has left, and nobody else is there: none comes before the node is given back."""
        self.client_key: ClientKey = lease.address.user_keys or Secret(
            journal.key_path(lease.id).read_bytes()
        )

    @property
    def lease_id(self) -> str:
        return self._lease.id

    @property
    def arch(self) -> str:
        return self._lease.arch

    @property
    def handle(self) -> str:
        """The provider's own name for the node."""
        return self._lease.handle

    @property
    def kind(self) -> str:
        """What the node is, in a few words: size and zone, or whose machine."""
        return self._lease.kind

    @property
    def injected(self) -> Mapping[str, InjectedFile]:
        """What the provider itself put on the node, by path; files by their digest."""
        return self._lease.injected

    @property
    def mounts(self) -> tuple[ExpectedMount, ...]:
        """The mounts that the node was born with, in mount order."""
        return self._lease.mounts

    @property
    def layers(self) -> Mapping[str, str]:
        """Layer paths on the node with the tree digests recorded for them."""
        return self._lease.layers

    @property
    def chroots(self) -> tuple[str, ...]:
        """The chroots that live on the node, as far as was recorded."""
        return self._lease.chroots

    @property
    def verdict(self) -> LastVerdict:
        """The last one recorded for the node; with an empty digest if there is none."""
        return self._lease.verdict

    @property
    def builds(self) -> int:
        """How often the node was leased, this time included."""
        return self._lease.builds

    @property
    def expires_unix(self) -> float:
        """When the node must have ended, in unix seconds of the clock as it is set now."""
        return self._expires_unix + self._clock.total_s

    @property
    def price_per_hour(self) -> float | None:
        """What the node costs; None if nobody knows."""
        return self._lease.price_per_hour

    @property
    def kept_until_unix(self) -> float | None:
        """Until when a node that was given back lives, if nobody uses it; None: it has ended."""
        lease = self._lease
        if lease.state is not LeaseState.READY or lease.idle_since_unix is None:
            return None
        return min(lease.expires_unix, lease.idle_since_unix + lease.idle_ttl_s)

    @property
    def idle_ttl_s(self) -> float:
        """How long the node may live without anybody at work on it."""
        return self._lease.idle_ttl_s

    @property
    def has_bootstrap_key(self) -> bool:
        """Whether others may know the private half of the node's host key."""
        return self._lease.has_bootstrap_key

    @property
    def next_host_key(self) -> HostKey | None:
        """The host key that the node was being given when that was last heard of."""
        coming = self._lease.next_host_key
        return None if coming is None else coming.key

    def record_next_host_key(self, pair: KeyPair) -> None:
        """Note, before the node is given `pair`, that it may answer with that key from now on.

        Of the private half only the digest is kept.
        """
        files = {path: file.without_content() for path, file in host_key_files(pair).items()}
        coming = NextHostKey(pair.public, files)
        self._update(lambda lease: replace(lease, next_host_key=coming))

    def adopt_next_host_key(self) -> None:
        """The node was seen to have the next host key: from now on no other one is accepted."""
        self._update(_with_next_host_key)
        if self._lease.address is not None:
            self.address = self._lease.address

    @contextlib.contextmanager
    def noting_together(self) -> Iterator[None]:
        """What is noted within the block is written at its end, in one step: all or nothing.

        Nothing is where the block raises. As any note it may raise JournalError, CloudError.
        """
        updates = self._together = []
        try:
            yield
        finally:
            self._together = None
        if updates:
            self._write(updates)

    def record_layers(self, layers: Mapping[str, str]) -> None:
        """Note layers (path → tree digest, hex) that a trusted agent made.

        Replaces all but what commands beside this one noted; one of those only adds to it.
        """
        before = {} if self.beside else self._known_layers

        def change(lease: Lease) -> Lease:
            others = {path: lease.layers[path] for path in lease.layers.keys() - before.keys()}
            return replace(lease, layers={**others, **layers})

        self._update(change)

    def add_layers(self, layers: Mapping[str, str]) -> None:
        """Note further ones."""
        self._update(lambda lease: replace(lease, layers={**lease.layers, **layers}))

    def let_others_in(self, job: str) -> None:
        """Commands that share the chroot may work in it from now on, beside `job`."""
        me = Holder.me()

        def change(lease: Lease) -> Lease:
            sharing = lease.sharing
            if lease.holder == me:
                return replace(lease, sharing=replace(sharing, job=job))
            guests = (Guest(me, job) if one.holder == me else one for one in sharing.guests)
            return replace(lease, sharing=replace(sharing, guests=tuple(guests)))

        self._update(change)

    def begin_job(self, job: JobRecord, grace_s: float) -> None:
        """Note a job before it is started: followed or not, it is the node's from then on."""
        self._update(lambda lease: replace(lease, job=job.id, grace_s=grace_s), job)

    def note_job(self, job: JobRecord, *, over: bool = False) -> None:
        """Note what is known of the job now. `over`: nothing of it is wanted any more."""
        self._update(lambda lease: replace(lease, job="" if over else job.id), job)

    def leave(self, *, foreign: bool = False, at_fault: bool = False) -> Sharing | None:
        """What the others left if this process is the last there, who ends what died from then on.

        None if another one is: the node is no longer ours then. No command is let in any more until
        the node is given back. `foreign`: code that nobody signed ran; `at_fault`: the node is to
        end when the last has left it. Idempotent.
        """
        if self._given_back:
            return None
        if self._is_last and not foreign:
            return self._lease.sharing
        me = Holder.me()

        def change(lease: Lease) -> Lease:
            sharing = lease.sharing
            others = [one for one in sharing.guests if one.holder != me]
            new = Sharing(sharing.job, tuple(others), foreign or sharing.foreign)
            if lease.holder != me:
                self._given_back = True
                return replace(lease, sharing=new)
            heir = next((one for one in others if one.holder.alive), None)
            if heir is None:
                return replace(lease, sharing=replace(new, job=""))
            self._given_back = True
            others.remove(heir)
            return replace(
                lease,
                holder=heir.holder,
                idle_ttl_s=0.0 if at_fault else lease.idle_ttl_s,
                sharing=replace(new, job=heir.job, guests=tuple(others)),
            )

        self._update(change)
        self._is_last = not self._given_back
        return None if self._given_back else self._lease.sharing

    def record_chroots(self, chroots: Iterable[str]) -> None:
        """Note the chroots that live on the node now. Replaces all."""
        names = tuple(sorted(set(chroots)))
        self._update(lambda lease: replace(lease, chroots=names))

    def reserve(self, chroot: str) -> None:
        """Keep the node for this chroot once it is given back, however often it was used.

        An empty name ends that. The idle time to live bounds it.
        """
        self._update(lambda lease: replace(lease, reserved=chroot))

    def record_verdict(self, verdict: LastVerdict) -> None:
        """Note the verdict under which the node is trusted."""
        self._update(lambda lease: replace(lease, verdict=verdict))

    def note_foreign(self, chroot: str) -> None:
        """Note, before it begins, that code which nobody signed may be root in `chroot`."""

        def change(lease: Lease) -> Lease:
            foreign = tuple(sorted({*lease.verdict.foreign, chroot}))
            return replace(lease, verdict=replace(lease.verdict, foreign=foreign))

        if chroot not in self._lease.verdict.foreign:
            self._update(change)

    @property
    def is_known_gone(self) -> bool:
        """Whether the provider says that the node does not run. One that cannot say so says no."""
        try:
            return not self._provider.is_running(self._lease.id, self._lease.handle)
        except MockCloudError:
            return False

    @property
    def was_given_back(self) -> bool:
        """Whether another command ended the lease that this one holds, as `release --force` does.

        A node that ended by itself keeps its chroot's name in the journal. JournalError.
        """
        lease = self._journal.find(self._lease.id)
        is_over = lease is None or lease.state in (LeaseState.RELEASING, LeaseState.GONE)
        return is_over and not (lease and lease.chroot) and not (self.is_ended or self.is_ending)

    @property
    def is_alone(self) -> bool:
        """Whether no other command works on the node now. JournalError."""
        lease = self._journal.find(self._lease.id)
        guests = () if lease is None else lease.sharing.guests
        return not self.beside and not any(guest.holder.alive for guest in guests)

    def lives_elsewhere(self, chroot: str) -> bool:
        """Whether a later command has made the chroot anew on another node. JournalError."""
        mine = (self._lease.remote, self._lease.owner)
        others = (one for one in self._journal.leases() if one.id != self._lease.id)
        return any(
            (one.remote, one.owner) == mine and chroot in (*one.chroots, one.chroot)
            for one in others
        )

    def forsake(self) -> None:
        """Do no more for the lease: its row says what it said last, and its times end the node."""
        self._given_back = self.is_forsaken = True

    def find_end(self) -> str:
        """Why the node ended, if its cloud ended it and says so; else empty."""
        return self._provider.find_end(self._lease.handle)

    def console_tail(self) -> str:
        """The end of the node's console, for a message."""
        return self._provider.console_tail(self._lease.handle)

    def release(self, *, keep: bool) -> None:
        """Give the node back: warm for the next build if `keep` and it may live on. Idempotent.

        CleanupError if it had to be destroyed and could not be.
        """
        if self.leave() is None:
            return
        lease = self._lease
        # A count takes no chroot away: what its user put there is on no other node.
        used_up = lease.builds >= self._max_builds and not (lease.reserved or lease.chroots)
        if not keep or lease.idle_ttl_s <= 0 or used_up:
            self.destroy()
            return
        now = time.time()
        self._update(
            lambda lease: replace(
                lease,
                state=LeaseState.READY,
                holder=None,
                chroot="",
                idle_since_unix=now,
                sharing=Sharing(),
                job="",
            )
        )
        self._given_back = True

    def destroy(self) -> None:
        """End the node, once no other command works on it. Idempotent.

        CleanupError names what is left; a sweep tries again. With `end_beside` the journal says
        that the node is to end, and this returns.
        """
        with contextlib.suppress(CloudError):  # what is no longer ours is to end all the same
            if self.leave(at_fault=True) is None:
                return
        self.is_ending = self.end_beside is not None and self._is_left_to(self.end_beside)
        if not self.is_ending:
            end_lease(self._journal, self._provider, self._lease.id)
            self.is_ended = True
        self._given_back = True

    def _is_left_to(self, end_beside: EndBeside) -> bool:
        try:
            self._journal.give_up([self._lease.id])
            end_beside([self._lease.id])
        except (MockCloudError, OSError):
            return False
        return True

    def __enter__(self) -> LeasedNode:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None or self.spared:
            self.release(keep=True)
            return
        try:
            self.destroy()
        except CleanupError as left:  # it is in the journal; what led here must not be lost
            if not isinstance(error, MockCloudError):
                raise
            error.message = f"{error.message}; and {left.message}"

    def _update(self, change: Callable[[Lease], Lease], job: JobRecord | None = None) -> None:
        """Change the row, and a job's, if this process still holds it. CloudError if it lost it."""
        if self._together is not None:
            self._together.append((change, job))
        else:
            self._write([(change, job)])

    def _write(self, updates: Iterable[_Update]) -> None:
        with self._journal.transaction() as books:
            lease = books.find(self._lease.id)
            me = Holder.me()
            if (
                lease is None
                or lease.state is not LeaseState.BUSY
                or me not in (lease.holder, *(guest.holder for guest in lease.sharing.guests))
            ):
                raise CloudError(
                    f"lease {self._lease.id} is no longer ours: expired or released meanwhile",
                    hint="run the command again; raise [lease] max_ttl_s if it expired",
                )
            for change, job in updates:
                lease = change(lease)
                if job is not None:
                    books.write_job(job)
            books.write(lease)
            self._lease = lease


def _with_next_host_key(lease: Lease) -> Lease:
    coming = lease.next_host_key
    if coming is None or lease.address is None:
        return lease
    return replace(
        lease,
        address=replace(lease.address, host_key=coming.key),
        injected={**lease.injected, **coming.files},
        has_bootstrap_key=False,
        next_host_key=None,
    )


def end_lease(journal: Journal, provider: Provider, lease_id: str) -> None:
    """Destroy a lease's node and close the lease; the journal knows at each step. Idempotent.

    Until it has ended or failed the lease names this process, so that no other one tries too.
    """
    with journal.transaction() as books:
        lease = books.find(lease_id)
        if lease is not None and lease.state is not LeaseState.GONE:
            books.write(releasing(lease))
    try:
        provider.destroy(lease_id, lease.handle if lease is not None else "")
    except BaseException as error:
        problem = error.message if isinstance(error, MockCloudError) else "interrupted"
        journal.note_end_failed(lease_id, problem)
        raise
    journal.close(lease_id)
