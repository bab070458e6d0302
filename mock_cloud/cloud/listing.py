# SPDX-License-Identifier: GPL-2.0-or-later
"""What `mock-cloud nodes` shows and `mock-cloud release` does, as data."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from mock_cloud.cloud.budget import account, cost, day_start
from mock_cloud.cloud.claim import describe
from mock_cloud.cloud.journal import Journal
from mock_cloud.cloud.lease import BEFORE_NODE, Lease, LeaseState
from mock_cloud.cloud.leased import EndBeside, end_lease
from mock_cloud.cloud.provider import Provider
from mock_cloud.cloud.providers import NAMES, find_provider
from mock_cloud.errors import ConfigError, InputError, MockCloudError
from mock_cloud.settings import Budget, Remote
from mock_cloud.wire.dataclass import dataclass

_LOOK_S: Final = 0.1
ENDED_AT_ONCE: Final = 8
"""Nodes that are ended at once: each is a wait for its machine or for an API."""

LoadRemote = Callable[[str], Remote]
"""Reads a remote's file by its name. ConfigError."""


@dataclass(frozen=True, slots=True)
class NodeRow:
    """One lease as a listing shows it. Times are unix seconds, durations seconds.

    `ends_unix` is when it ends if nobody uses it again.
    `state` is the lease's, or ``abandoned`` if its holder died. `holder_pid` is the process at
    work, 0 for none. `price_per_hour` and `cost` (so far) are in the currency of the remote's
    budget, None if nobody knows. `problem` says why it could not be ended, empty if it could.
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
    arch: str
    kind: str
    price_per_hour: float | None
    cost: float | None
    problem: str

    def to_json(self) -> dict[str, object]:
        """The row with JSON's types, keys as named here."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True)
class BudgetRow:
    """What a remote's budget of today (UTC) is, was spent, is reserved for living nodes."""

    remote: str
    currency: str
    per_day: float
    spent: float
    reserved: float

    @property
    def left(self) -> float:
        return max(0.0, self.per_day - self.spent - self.reserved)


@dataclass(frozen=True, slots=True)
class Released:
    """What became of one lease; `problem` says why it was not released, None if it was.

    `is_forgotten`: it had no node that anybody knows of, and its provider could not be asked.
    `is_ending`: a process ends it now that is not waited for.
    """

    lease: str
    remote: str
    problem: str | None
    is_forgotten: bool = False
    is_ending: bool = False


def list_rows(state_dir: Path) -> list[NodeRow]:
    """All leases that are not gone, oldest first."""
    now = time.time()
    return [_row(lease, now) for lease in Journal(state_dir).leases()]


def list_budgets(state_dir: Path, budgets: Mapping[str, Budget]) -> list[BudgetRow]:
    """How far the budgets of these remotes are used. A lease of unknown price counts nothing."""
    journal, now = Journal(state_dir), time.time()
    rows = []
    with journal.transaction() as books:
        for remote, budget in sorted(budgets.items()):
            leases = books.leases_of(remote)
            sums = account(leases, now, day_unix=day_start(now), price_if_unknown=0.0)
            rows.append(
                BudgetRow(remote, budget.currency, budget.per_day, sums.spent, sums.reserved)
            )
    return rows


def release(
    state_dir: Path,
    target: str | None,
    load: LoadRemote,
    *,
    force: bool = False,
    end_beside: EndBeside | None = None,
) -> list[Released]:
    """End the nodes of remote or lease `target`, or all of this owner for None.

    A node at which a living process works is left alone unless `force`; by that, a lease whose
    node was never known is forgotten where its provider can't be asked. What another process ends
    is waited for. With `end_beside` nothing is: it is given what can be ended. InputError if
    `target` names nothing that mock-cloud made.
    """
    journal = Journal(state_dir)
    chosen = [
        lease
        for lease in journal.leases()
        if lease.owner == journal.owner and target in (None, lease.id, lease.remote)
    ]
    if not chosen and target is not None:
        raise InputError(
            f"no node of yours belongs to a remote or lease {target!r}",
            hint="mock-cloud nodes lists them",
        )
    if end_beside is not None:
        return _release_beside(journal, chosen, end_beside, load=load, force=force)
    with ThreadPoolExecutor(ENDED_AT_ONCE) as pool:
        return list(pool.map(partial(_release, journal, load=load, force=force), chosen))


def _release_beside(
    journal: Journal,
    leases: Sequence[Lease],
    end_beside: EndBeside,
    *,
    load: LoadRemote,
    force: bool,
) -> list[Released]:
    """What cannot be left to `end_beside` is as `_release` says."""
    left = []
    for lease in leases:
        is_free = force or not lease.held
        if is_free and not lease.is_ending and (lease.handle or not force):
            with suppress(MockCloudError):
                _provider_of(lease, journal.state_dir, load)
                left.append(lease.id)
    journal.give_up(left)
    for lease_id in left:
        journal.forget_chroots(lease_id)
    try:
        if left:
            end_beside(left)
    except OSError:
        left.clear()
    released = []
    for lease in leases:
        if lease.id in left or lease.is_ending:
            released.append(Released(lease.id, lease.remote, None, is_ending=True))
        else:
            released.append(_release(journal, lease, load=load, force=force))
    return released


def end_given_up(journal: Journal, lease_id: str, load: LoadRemote) -> bool:
    """End a lease that was given up; whether nothing is left to do. Why not is in the journal."""
    lease = journal.find(lease_id)
    if lease is None or lease.state is not LeaseState.RELEASING or not journal.claim_end(lease):
        return True  # another command was faster
    try:
        provider = _provider_of(lease, journal.state_dir, load)
    except MockCloudError as error:
        journal.note_end_failed(lease_id, error.message)
        return False
    with suppress(MockCloudError):
        end_lease(journal, provider, lease_id)
        return True
    return False


def _await_end(journal: Journal, lease: Lease) -> Lease | None:
    """The lease as it is once the process that ends it has; None if it is gone."""
    now: Lease | None = lease
    while now is not None and now.state is LeaseState.RELEASING and now.held:
        time.sleep(_LOOK_S)
        now = journal.find(lease.id)
    return None if now is None or now.state is LeaseState.GONE else now


def _release(journal: Journal, lease: Lease, *, load: LoadRemote, force: bool) -> Released:
    now = lease if force else _await_end(journal, lease)
    if now is None:
        return Released(lease.id, lease.remote, None)
    if now.held and not force:
        return Released(lease.id, lease.remote, f"in use: {describe(now)}")
    try:
        end_lease(journal, _provider_of(lease, journal.state_dir, load), lease.id)
        journal.forget_chroots(lease.id)
    except MockCloudError as error:
        if force and not lease.handle:
            journal.close(lease.id)
            return Released(lease.id, lease.remote, None, is_forgotten=True)
        hint = f" ({error.hint})" if error.hint else ""
        return Released(lease.id, lease.remote, error.message + hint)
    return Released(lease.id, lease.remote, None)


def _provider_of(lease: Lease, state_dir: Path, load: LoadRemote) -> Provider:
    """The provider that can end the lease's node. ConfigError if nobody may ask for that."""
    if lease.provider in NAMES:
        return find_provider(lease.provider, state_dir, None)
    ends = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(lease.expires_unix))
    hint = (
        f"its {lease.provider} credentials are needed: put the file back that made the node, or say"
        f" --configdir; without it the node ends by itself at {ends}"
    )
    try:
        remote = load(lease.remote)
    except ConfigError as error:
        raise ConfigError(error.message, hint=hint) from error
    if remote.provider != lease.provider:
        raise ConfigError(
            f"{remote.source} is for provider {remote.provider} now, the node is of"
            f" {lease.provider}",
            hint=hint,
        )
    return find_provider(remote.provider, state_dir, remote)


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
        arch=lease.arch,
        kind=lease.kind,
        price_per_hour=lease.price_per_hour,
        cost=cost(lease, now_unix),
        problem=lease.end_problem,
    )


def _end(lease: Lease) -> float:
    if lease.held or lease.idle_since_unix is None:
        return lease.expires_unix
    return min(lease.expires_unix, lease.idle_since_unix + lease.idle_ttl_s)
