# SPDX-License-Identifier: GPL-2.0-or-later
"""Getting a node for a build: a warm one if there is one, else a new one within the limits."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

from mock_cloud.cloud.claim import Choice, Create, Evict, Take, Wait, Wish, choose
from mock_cloud.cloud.journal import Journal
from mock_cloud.cloud.lease import Holder, Lease, LeaseState
from mock_cloud.cloud.leased import LeasedNode, end_lease
from mock_cloud.cloud.provider import Bootstrap, NodeOrder, NodesTaken, OnPhase, Provider
from mock_cloud.cloud.providers import find_provider
from mock_cloud.errors import CleanupError, CloudError
from mock_cloud.model import KeyPair
from mock_cloud.settings import Remote
from mock_cloud.sshkeys import make_key_pair

_LOOK_EVERY_S: Final = 0.2
_ASK_EVERY_S: Final = 2.0
"""How often hosts are asked whether others are done; the journal is looked at more often."""


def acquire(
    remote: Remote,
    chroot: str,
    *,
    state_dir: Path,
    deadline_s: float,
    arch: str,
    on_phase: OnPhase = lambda phase: None,
    fresh: bool = False,
    toolkit: str = "",
) -> LeasedNode:
    """A node of `remote` to work in `chroot`, waiting at most `deadline_s` seconds.

    `arch` is the node's architecture, one of the remote's.
    The node on which the chroot lives comes first, then any warm one, then a new one. `fresh`:
    the build makes the chroot anew, so another node will do if its home is at work.
    `toolkit` is the digest of what will be pushed: a node that holds another one would be
    refused, so it is not taken. `on_phase` is told what happens, in a few words. CloudError,
    ConfigError; ChrootLocked at once if a living process works in this chroot.
    """
    journal = Journal(state_dir)
    provider = find_provider(remote.provider, state_dir, remote)
    wish = Wish(
        remote=remote.name,
        owner=journal.owner,
        settings=settings_digest(remote, arch, toolkit),
        chroot=chroot,
        fresh=fresh,
        max_nodes=remote.lease.max_nodes,
    )
    deadline = time.monotonic() + deadline_s
    told = False
    while True:
        choice, lease = _claim(journal, remote, wish, arch)
        wait: Wait | NodesTaken | None = None
        if isinstance(choice, Take) and lease is not None:
            if provider.is_running(lease.id, lease.handle):
                on_phase("using a warm node")
                return _leased(lease, journal, provider, remote, adopted=choice.lease.abandoned)
            end_lease(journal, provider, lease.id)
        elif isinstance(choice, Create) and lease is not None:
            on_phase("creating a node")
            timeout_s = max(0.1, deadline - time.monotonic())
            try:
                return _create(lease, journal, provider, remote, arch, timeout_s, on_phase)
            except NodesTaken as taken:
                wait = None if _make_room(journal, provider, taken, wish.owner) else taken
        elif isinstance(choice, Evict):
            on_phase("replacing a node that is no longer needed")
            end_lease(journal, provider, choice.lease.id)
        elif isinstance(choice, Wait):
            wait = choice
        if wait is not None:
            if not told:
                on_phase(f"waiting for a node: {_holders(wait)}")
                told = True
            _close_the_dead(journal, provider, wish)
            _wait(wait, remote, deadline)


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
        remote.cloud,
        node,
        remote.hosts,
        _identity(manifest),
        [_identity(host.manifest) for host in remote.hosts if host.manifest is not None],
        None if remote.local is None else _identity(remote.local.image),
    )
    return hashlib.sha256(repr(shape).encode()).hexdigest()


def _identity(path: Path | None) -> list[int] | None:
    if path is None:
        return None
    try:
        facts = path.stat()
    except OSError:
        return None
    return [facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns]


def _claim(journal: Journal, remote: Remote, wish: Wish, arch: str) -> tuple[Choice, Lease | None]:
    """Choose and, in the same transaction, put our name on what was chosen."""
    with journal.transaction() as books:
        leases = books.leases()
        choice = choose(leases, wish, time.time())
        lease: Lease | None = None
        if isinstance(choice, Take):
            lease = replace(
                choice.lease,
                state=LeaseState.BUSY,
                holder=Holder.me(),
                idle_since_unix=None,
                builds=choice.lease.builds + 1,
                chroot=wish.chroot,
                chroots=_with(choice.lease.chroots, wish.chroot),
            )
        elif isinstance(choice, Create):
            lease = _intend(remote, wish, arch)
        elif isinstance(choice, Evict):
            books.write(replace(choice.lease, state=LeaseState.RELEASING))
        if lease is not None:
            for other in leases:
                # A chroot made anew elsewhere lives there from now on.
                if other.id != lease.id and _knows(other, wish):
                    left = tuple(name for name in other.chroots if name != wish.chroot)
                    books.write(replace(other, chroots=left))
            books.write(lease)
        return choice, lease


def _intend(remote: Remote, wish: Wish, arch: str) -> Lease:
    now = time.time()
    return Lease(
        id=secrets.token_hex(6),
        remote=remote.name,
        owner=wish.owner,
        provider=remote.provider,
        settings=wish.settings,
        state=LeaseState.INTENDED,
        created_unix=now,
        expires_unix=now + remote.lease.max_ttl_s,
        idle_ttl_s=remote.lease.idle_ttl_s,
        builds=1,
        chroot=wish.chroot,
        chroots=(wish.chroot,),
        holder=Holder.me(),
        arch=arch,
    )


def _create(
    lease: Lease,
    journal: Journal,
    provider: Provider,
    remote: Remote,
    arch: str,
    timeout_s: float,
    on_phase: OnPhase,
) -> LeasedNode:
    try:
        client_key = make_key_pair()
        _store_key(journal.key_path(lease.id), client_key)
        lease = _move(journal, lease, LeaseState.CREATING)
        order = NodeOrder(lease.id, lease.remote, lease.owner, arch, lease.expires_unix)
        hostname = f"mock-cloud-{lease.id}"
        bootstrap = Bootstrap(make_key_pair(), client_key.public, hostname)
        node = provider.create(
            order,
            bootstrap,
            timeout_s=timeout_s,
            on_handle=lambda handle: _note_handle(journal, lease.id, handle),
            on_phase=on_phase,
        )
        lease = replace(
            lease,
            address=node.address,
            handle=node.handle,
            injected={path: file.without_content() for path, file in node.injected.items()},
            mounts=node.mounts,
            has_bootstrap_key=node.has_bootstrap_key,
            kind=node.kind,
            price_per_hour=lease.price_per_hour
            if node.price_per_hour is None
            else node.price_per_hour,
        )
        lease = _move(journal, lease, LeaseState.BUSY)
        return _leased(lease, journal, provider, remote, adopted=False)
    except BaseException:  # Ctrl-C too: what was begun is undone, then it goes on its way
        with contextlib.suppress(CleanupError):  # journalled as releasing: a sweep tries again
            end_lease(journal, provider, lease.id)
        raise


def _move(journal: Journal, lease: Lease, state: LeaseState) -> Lease:
    with journal.transaction() as books:
        now = books.find(lease.id)
        if now is None or now.state is not lease.state:
            raise CloudError(
                f"lease {lease.id} was released while its node was made",
                hint="run the command again",
            )
        moved = replace(lease, state=state)
        books.write(moved)
        return moved


def _note_handle(journal: Journal, lease_id: str, handle: str) -> None:
    with journal.transaction() as books:
        lease = books.find(lease_id)
        if lease is not None:
            books.write(replace(lease, handle=handle))


def _store_key(path: Path, pair: KeyPair) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "wb") as stream:
        stream.write(pair.private.reveal())


def _leased(
    lease: Lease, journal: Journal, provider: Provider, remote: Remote, *, adopted: bool
) -> LeasedNode:
    max_builds = remote.lease.max_builds
    return LeasedNode(lease, journal, provider, max_builds=max_builds, adopted=adopted)


def _close_the_dead(journal: Journal, provider: Provider, wish: Wish) -> None:
    """End leases of ours whose node died or that were left half made or half released."""
    for lease in journal.leases():
        if (lease.remote, lease.owner) != (wish.remote, wish.owner) or lease.held:
            continue
        if journal.find_due(lease.id) is not None or not provider.is_running(
            lease.id, lease.handle
        ):
            end_lease(journal, provider, lease.id)


def _wait(wait: Wait | NodesTaken, remote: Remote, deadline: float) -> None:
    if time.monotonic() >= deadline:
        if isinstance(wait, NodesTaken):
            raise wait
        raise CloudError(
            f"no node of remote {remote.name} became free: " + "; ".join(wait.holders),
            hint="try again later, or raise [lease] max_nodes in the remote's file",
        )
    time.sleep(_ASK_EVERY_S if isinstance(wait, NodesTaken) else _LOOK_EVERY_S)


def _make_room(journal: Journal, provider: Provider, taken: NodesTaken, owner: str) -> bool:
    """End one lease of ours that holds a node which nobody uses; whether there was one."""
    with journal.transaction() as books:
        held = [lease for lease in map(books.find, taken.leases) if lease is not None]
        idle = [one for one in held if one.state is LeaseState.READY or one.abandoned]
        ours = [one for one in idle if one.owner == owner]
        for lease in ours[:1]:
            books.write(replace(lease, state=LeaseState.RELEASING))
    for lease in ours[:1]:
        end_lease(journal, provider, lease.id)
    return bool(ours)


def _with(names: tuple[str, ...], name: str) -> tuple[str, ...]:
    return tuple(sorted({*names, name}))


def _knows(lease: Lease, wish: Wish) -> bool:
    return (lease.remote, lease.owner) == (wish.remote, wish.owner) and wish.chroot in lease.chroots
