# SPDX-License-Identifier: GPL-2.0-or-later
"""Making the node of a lease: each step is journalled before it is done."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from dataclasses import replace
from pathlib import Path

from mock_cloud.cloud.apis.texts import CloudIsOut
from mock_cloud.cloud.budget import grant_life_s
from mock_cloud.cloud.claim import LeaseRequest
from mock_cloud.cloud.journal import Journal, Transaction
from mock_cloud.cloud.lease import Holder, Lease, LeaseState
from mock_cloud.cloud.leased import end_lease
from mock_cloud.cloud.provider import Bootstrap, NodeOrder, OnPhase, Provider
from mock_cloud.errors import CloudError, ConfigError, MockCloudError
from mock_cloud.model import KeyPair
from mock_cloud.settings import Remote
from mock_cloud.sshkeys import make_key_pair


def find_price(remote: Remote, provider: Provider, arch: str) -> float:
    """What a node may cost per hour at most. ConfigError if nobody knows, CloudError.

    Asked where there is a budget: without a price it could not be kept.
    """
    price = provider.quote(arch)
    if price is None:
        raise ConfigError(
            f"{remote.source}: there is a [budget], and nobody knows what a node costs",
            hint=f"set price_per_hour in [node.{arch}]",
        )
    return price


def intend(
    books: Transaction, remote: Remote, request: LeaseRequest, price_per_hour: float | None
) -> Lease:
    """A lease for a node that does not exist yet, with a life that the budget allows.

    For the caller to write in the same transaction, so that no two spend the same money.
    BudgetReached.
    """
    now = time.time()
    life_s = remote.lease.max_ttl_s
    if remote.budget is not None and price_per_hour is not None:
        life_s = grant_life_s(
            remote.name,
            books.leases_of(remote.name),
            remote.budget,
            price_per_hour,
            now_unix=now,
            wanted_s=life_s,
        )
    return Lease(
        id=secrets.token_hex(6),
        remote=remote.name,
        owner=request.owner,
        provider=remote.provider,
        settings=request.settings,
        state=LeaseState.INTENDED,
        created_unix=now,
        expires_unix=now + life_s,
        idle_ttl_s=remote.lease.idle_ttl_s,
        builds=1,
        chroot=request.chroot,
        holder=Holder.me(),
        arch=request.arch,
        price_per_hour=price_per_hour,
    )


def make_node(
    lease: Lease, journal: Journal, provider: Provider, timeout_s: float, on_phase: OnPhase
) -> Lease:
    """Make the node of an intended lease; the lease as it is then, at work and with an address.

    Whatever hinders it, Ctrl-C too: what was begun is undone first. CloudError, ConfigError.
    """
    try:
        client_key = make_key_pair()
        _store_key(journal.key_path(lease.id), client_key)
        lease = _move(journal, lease, LeaseState.CREATING)
        order = NodeOrder(lease.id, lease.remote, lease.owner, lease.arch, lease.expires_unix)
        hostname = f"mock-cloud-{lease.id}"
        node = provider.create(
            order,
            Bootstrap(make_key_pair(), client_key.public, hostname),
            timeout_s=timeout_s,
            on_handle=lambda handle: _note_handle(journal, lease.id, handle),
            on_phase=on_phase,
        )
        price = lease.price_per_hour if node.price_per_hour is None else node.price_per_hour
        lease = replace(
            lease,
            address=node.address,
            handle=node.handle,
            injected={path: file.without_content() for path, file in node.injected.items()},
            mounts=node.mounts,
            has_bootstrap_key=node.has_bootstrap_key,
            kind=node.kind,
            price_per_hour=price,
        )
        return _move(journal, lease, LeaseState.BUSY)
    except BaseException as error:
        noted = journal.find(lease.id)
        if isinstance(error, (ConfigError, CloudIsOut)) and not (noted and noted.handle):
            journal.close(lease.id)  # nothing was made, and who would end it can't be asked
        else:
            with contextlib.suppress(MockCloudError):  # noted as releasing: a sweep tries again
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
