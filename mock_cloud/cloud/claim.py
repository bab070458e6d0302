# SPDX-License-Identifier: GPL-2.0-or-later
"""Choosing a lease for a build: pure decisions, on what the journal holds at one moment.

In this order: the node on which the chroot lives; a warm idle node; a new node; and at the
remote's limit, a node that nobody will miss. Else the caller must wait. A node that has less than
half of its life left is taken only for what goes on in a chroot that lives there: anywhere else
that chroot would be lost. One that is reserved for a chroot serves that one alone. A chroot whose
node has ended is never silently made anew: only a command that would empty it may do so.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from mock_cloud.cloud.hosts.handle import host_name
from mock_cloud.cloud.lease import Lease, LeaseState
from mock_cloud.errors import ChrootGone, ChrootLocked
from mock_cloud.wire.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class LeaseRequest:
    """What a command needs of a node. `fresh`: the chroot is made anew, wherever it lived before.

    `kept`: the chroot was made before, and nothing can be done without what is in it. `discards`:
    the command does away with what is in the chroot, where there is one. `shares`: it may work
    beside another one in the chroot. `toolkit` is the digest of what will be pushed: a node that
    holds another one would be refused, so it is not taken. `hosts`: a part of another command has
    these lent machines for its own, and no other lease of the remote is its business; empty: it has
    all. Which `remote`, whose and of which
    `settings` is for `pool.acquire` to say.
    """

    chroot: str
    arch: str = ""
    toolkit: str = ""
    fresh: bool = False
    kept: bool = False
    discards: bool = False
    shares: bool = False
    hosts: tuple[str, ...] = ()
    remote: str = ""
    owner: str = ""
    settings: str = ""
    max_nodes: int = 1


@dataclass(frozen=True, slots=True)
class Join:
    """Work on this node beside the command that holds it."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class Take:
    """Use this ready or abandoned node."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class Create:
    """There is room for a new node."""


@dataclass(frozen=True, slots=True)
class Evict:
    """No room, but nobody will miss this node: end it, then choose again."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class Wait:
    """All nodes are at work; `holders` says whose, one line each.

    `queues`: for any node; else for one node alone. `is_short`: until a node has ended, which is
    soon.
    """

    holders: tuple[str, ...]
    queues: bool = True
    is_short: bool = False


Choice = Join | Take | Create | Evict | Wait


def choose(
    leases: Sequence[Lease],
    request: LeaseRequest,
    now_unix: float,
    *,
    lost: Lease | None = None,
    is_first: bool = True,
) -> Choice:
    """What to do for `request`. `leases` are all that are not gone, `lost` is `find_lost`'s.

    Unless it `is_first` in the queue, a request gets no node but the one on which its chroot lives.

    ChrootLocked if a living process works in the same chroot and one of both does not share it:
    mock does not wait for that lock either (`buildroot.py`, `_lock_buildroot`: non-blocking, exit
    code 60). ChrootGone if the chroot that the request counts on lives nowhere, or not on a node of
    these settings.
    """
    ours = [item for item in leases if (item.remote, item.owner) == (request.remote, request.owner)]
    if request.hosts:
        others = [item for item in ours if item.settings != request.settings]
        in_the_way = [item for item in others
                      if is_unneeded(item) and host_name(item.handle) in request.hosts]  # fmt: skip
        ours = [item for item in ours if item.settings == request.settings]
        if in_the_way and not ours:
            return Evict(in_the_way[0])
    shared = _find_shared(ours, request)
    if shared is not None:
        return Join(shared)
    home = _find_home(ours, request, now_unix)
    if home is not None and not (home.held and request.fresh):
        return Wait((describe(home),), queues=False) if home.held else Take(home)
    if home is None and not (request.fresh or request.discards):
        _check_not_lost(ours, request, lost)
    return _choose_any(ours, request, now_unix) if is_first else _wait_for_any(ours)


def _choose_any(ours: Sequence[Lease], request: LeaseRequest, now_unix: float) -> Choice:
    """What to do for a request that any node will do for."""
    warm = [item for item in ours if _is_warm(item, request, now_unix)]
    if warm:
        # The one used last: the others may reach their idle limit.
        return Take(max(warm, key=lambda item: item.idle_since_unix or 0.0))
    if len(ours) < request.max_nodes:
        return Create()
    # What nobody follows any more goes last: it may be taken up.
    unneeded = [item for item in ours if is_unneeded(item)] or [one for one in ours if one.is_left]
    if unneeded:
        # First one on which no chroot is lost.
        return Evict(
            min(unneeded, key=lambda item: (bool(item.chroots), item.idle_since_unix or 0.0))
        )
    return _wait_for_any(ours)


def _wait_for_any(ours: Sequence[Lease]) -> Wait:
    is_short = any(item.is_ending for item in ours)
    return Wait(tuple(describe(item) for item in ours), is_short=is_short)


def _find_shared(ours: Sequence[Lease], request: LeaseRequest) -> Lease | None:
    """The lease to join in this chroot, if a command is at work there. ChrootLocked."""
    was_made_anew = any(request.chroot in item.chroots and not item.is_left for item in ours)
    for item in ours:
        if item.is_left and (was_made_anew or request.fresh):
            continue  # nobody means the chroot of its job any more
        if item.chroot == request.chroot and item.is_left:
            raise ChrootLocked(
                f"chroot {request.chroot} on remote {request.remote} is that of job {item.job},"
                " whose command died",
                hint=f"mock-cloud attach {item.job} takes it up, mock-cloud cancel ends it",
            )
        if item.chroot == request.chroot and item.held:
            if request.shares and item.is_shared and item.settings == request.settings:
                return item
            raise ChrootLocked(
                f"chroot {request.chroot} on remote {request.remote} is in use by {describe(item)}",
                hint="wait for it to end, or give this build a chroot of its own: --uniqueext",
            )
    return None


def find_lost(gone: Sequence[Lease], request: LeaseRequest) -> Lease | None:
    """The lease that ended last of those on whose nodes the chroot lived."""
    homes = [
        item
        for item in gone
        if (item.remote, item.owner) == (request.remote, request.owner)
        and request.chroot in item.chroots
    ]
    return max(homes, key=lambda item: item.ended_unix or 0.0, default=None)


def _check_not_lost(ours: Sequence[Lease], request: LeaseRequest, lost: Lease | None) -> None:
    """ChrootGone for a chroot that was made and that no usable node has."""
    what = f"chroot {request.chroot} on remote {request.remote}"
    hint = "make it again with --init, or forget it with --clean"
    for item in ours:
        if request.chroot in item.chroots and item.settings != request.settings:
            raise ChrootGone(
                f"{what} cannot be reached: it lives on lease {item.id}, which was made before the"
                " remote's file, its manifest or this program changed",
                hint=f"change them back, or {hint}",
            )
    if lost is not None or request.kept:
        raise ChrootGone(
            f"{what} is gone: its node {describe_end(lost)}",
            hint=f"{hint}; [lease] idle_ttl and max_ttl say how long a node stays",
        )


def describe_end(lease: Lease | None) -> str:
    """When a lease ended, and why as far as its times tell; None is an unknown one."""
    if lease is None or lease.ended_unix is None:
        return "has ended"
    at = datetime.fromtimestamp(lease.ended_unix).astimezone().strftime("%Y-%m-%d %H:%M")
    idle_since = lease.idle_since_unix
    if lease.ended_unix >= lease.expires_unix:
        return f"reached the end of its life (max_ttl) at {at}"
    if idle_since is not None and lease.ended_unix >= idle_since + lease.idle_ttl_s:
        return f"ended at {at}, idle for longer than idle_ttl ({lease.idle_ttl_s:g} s)"
    return f"ended at {at}"


def describe(lease: Lease) -> str:
    """A lease in a few words, for a message."""
    pid = f"process {lease.holder.pid}" if lease.holder else "nobody"
    pid = f"job {lease.job}, left by {pid}" if lease.is_left else pid
    since = datetime.fromtimestamp(lease.created_unix).astimezone().strftime("%H:%M")
    work = f", chroot {lease.chroot}" if lease.chroot else ""
    work = f", kept for chroot {lease.reserved}" if lease.reserved and not work else work
    return f"lease {lease.id} ({lease.state.value}, {pid} of {lease.owner}{work}, since {since})"


def _find_home(leases: Sequence[Lease], request: LeaseRequest, now_unix: float) -> Lease | None:
    """The node on which the chroot lives, at work or not."""
    for item in leases:
        usable = item.state in (LeaseState.READY, LeaseState.BUSY)
        timely = item.has_time(now_unix) or not request.fresh
        if item.is_left:
            continue  # a command for its chroot is one that makes it anew
        lives = request.chroot in item.chroots or (item.abandoned and item.chroot == request.chroot)
        if usable and timely and item.settings == request.settings and lives:
            return item
    return None


def _is_warm(lease: Lease, request: LeaseRequest, now_unix: float) -> bool:
    usable = lease.state is LeaseState.READY and lease.has_time(now_unix) and not lease.reserved
    return usable and lease.settings == request.settings


def is_unneeded(lease: Lease) -> bool:
    """Whether nobody will miss the node."""
    is_idle = lease.state is LeaseState.READY and not lease.reserved
    return is_idle or (lease.abandoned and not lease.job)
