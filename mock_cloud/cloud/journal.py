# SPDX-License-Identifier: GPL-2.0-or-later
"""The journal of leases: one SQLite file, written before anything is made or bought.

Every call opens the file anew, so that a forked child or another thread never shares a
connection. A change that depends on what it read happens inside `transaction`.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Final

from mock_cloud.cloud.budget import day_start
from mock_cloud.cloud.jobs import (
    CREATE_JOBS,
    FORGET_JOBS,
    REPLACE_JOB,
    SELECT_JOB,
    SELECT_JOBS,
    JobRecord,
    parse_job_row,
    to_job_row,
)
from mock_cloud.cloud.lease import Lease, LeaseState, find_due, releasing
from mock_cloud.cloud.owner import JOURNAL, local_owner
from mock_cloud.cloud.rows import (
    CREATE_TABLE,
    REPLACE,
    SELECT,
    VERSION,
    RowError,
    parse_row,
    to_row,
)
from mock_cloud.cloud.tickets import CREATE_TICKETS, Queue, Ticket
from mock_cloud.errors import ConfigError, JournalError
from mock_cloud.sqlite_file import OtherVersion, make_private, opened, transaction

_LOST_KEPT_S: Final = 30 * 86400.0
"""So long a command that counts on a chroot is told that its node has ended."""


class Journal:
    """The leases of one state directory (made with mode 0700 where it is missing)."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.path = state_dir / JOURNAL
        self._prepare()

    @cached_property
    def owner(self) -> str:
        """Whose leases ours are: see `owner.local_owner`."""
        return local_owner(self.state_dir)

    def _prepare(self) -> None:
        try:
            for directory in (self.state_dir, self.state_dir / "keys"):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                directory.chmod(0o700)
            with self._explained():
                make_private(self.path, VERSION, CREATE_TABLE, CREATE_JOBS, CREATE_TICKETS)
        except OSError as error:
            raise ConfigError(
                f"the state directory {self.state_dir} cannot be used: {error.strerror}",
                hint="set XDG_STATE_HOME to a directory of yours",
            ) from error
        with self._connect():
            pass

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        with self._explained(), opened(self.path, VERSION) as db:
            db.row_factory = sqlite3.Row
            yield db

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OtherVersion as error:
            raise ConfigError(
                f"the lease journal {self.path} {error}",
                hint="another version of mock-cloud wrote it: use that one, or once its nodes"
                " are gone remove the file",
            ) from error
        except sqlite3.OperationalError as error:
            raise JournalError(
                f"the lease journal {self.path} cannot be used: {error}",
                hint="check the directory's permissions and free space, then try again",
            ) from error
        except (sqlite3.DatabaseError, RowError) as error:
            raise ConfigError(
                f"the lease journal {self.path} is damaged: {error}",
                hint=f"move it away; nodes that it named end by themselves. Check"
                f" {self.state_dir} for what is left",
            ) from error

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Exclusive use of the journal; committed at the end, undone by an exception."""
        with self._connect() as db, transaction(db):
            yield Transaction(db)

    def leases(self) -> list[Lease]:
        """All leases that are not gone, oldest first."""
        with self._connect() as db:
            return Transaction(db).leases()

    def jobs(self) -> list[JobRecord]:
        """All jobs of the last weeks that could be left and taken up, oldest first."""
        with self._connect() as db:
            return Transaction(db).jobs()

    def find_job(self, job_id: str) -> JobRecord | None:
        """The job of this name."""
        with self._connect() as db:
            return Transaction(db).find_job(job_id)

    def note_job(self, job: JobRecord) -> None:
        """Write the job's row anew."""
        with self.transaction() as books:
            books.write_job(job)

    def find(self, lease_id: str) -> Lease | None:
        """The lease, gone ones too."""
        with self._connect() as db:
            return Transaction(db).find(lease_id)

    def find_due(self, lease_id: str) -> str | None:
        """Why this lease must end now, having moved it to releasing; None while it may live.

        Also notes the moment at which an abandoned lease was first seen so.
        """
        lease, now = self.find(lease_id), time.time()
        if lease is not None and find_due(lease, now) is None and not _to_note(lease):
            return None
        with self.transaction() as books:
            lease = books.find(lease_id)
            if lease is None:
                return "no longer in the journal"
            if _to_note(lease):
                lease = replace(lease, idle_since_unix=now)
                books.write(lease)
            reason = find_due(lease, now)
            if reason is not None and lease.state not in (LeaseState.RELEASING, LeaseState.GONE):
                books.write(replace(lease, state=LeaseState.RELEASING, holder=None, chroot=""))
            return reason

    def shift_times(self, lease_id: str, by_s: float) -> None:
        """Let a lease live as long as before, by a clock that was set forward by so much."""
        with self.transaction() as books:
            lease = books.find(lease_id)
            if lease is not None:
                idle_unix = lease.idle_since_unix
                books.write(
                    replace(
                        lease,
                        created_unix=lease.created_unix + by_s,
                        expires_unix=lease.expires_unix + by_s,
                        idle_since_unix=None if idle_unix is None else idle_unix + by_s,
                    )
                )

    def note_abandoned(self) -> None:
        """Note of leases whose holders died that this was seen: their grace begins."""
        if not any(_to_note(lease) for lease in self.leases()):
            return
        with self.transaction() as books:
            for lease in books.leases():
                if lease.owner == self.owner and _to_note(lease):
                    books.write(replace(lease, idle_since_unix=time.time()))

    def claim_end(self, seen: Lease) -> bool:
        """Take a lease for this process to end; False if it is not as it was `seen`, or is held."""
        with self.transaction() as books:
            lease = books.find(seen.id)
            same = lease is not None and (lease.state, lease.builds) == (seen.state, seen.builds)
            if lease is None or not same or lease.held or lease.state is LeaseState.GONE:
                return False
            books.write(releasing(lease))
            return True

    def give_up(self, lease_ids: Iterable[str]) -> None:
        """Note that these leases are over: any process may end them now, and some command will."""
        with self.transaction() as books:
            for lease in map(books.find, lease_ids):
                if lease is not None and lease.state is not LeaseState.GONE:
                    books.write(replace(releasing(lease), holder=None))

    def close(self, lease_id: str) -> None:
        """Mark a lease whose node is gone, and remove its key. Idempotent."""
        self.key_path(lease_id).unlink(missing_ok=True)
        with self.transaction() as books:
            lease = books.find(lease_id)
            if lease is not None and lease.state is not LeaseState.GONE:
                books.write(
                    replace(
                        lease,
                        state=LeaseState.GONE,
                        holder=None,
                        injected={},
                        next_host_key=None,
                        ended_unix=time.time(),
                    )
                )

    def count_ahead(self, ticket: Ticket) -> int:
        """How many wait before this ticket."""
        with self._connect() as db:
            return Queue(db, ticket.remote, ticket.arch).count_ahead(ticket)

    def leave_queue(self, ticket: Ticket) -> None:
        """The ticket's process waits no longer."""
        with self.transaction() as books:
            books.queue(ticket.remote, ticket.arch).leave(ticket)

    def note_end_failed(self, lease_id: str, problem: str) -> None:
        """Note that a lease's node could not be ended, and why; nobody holds it then."""
        with self.transaction() as books:
            lease = books.find(lease_id)
            if lease is not None:
                books.write(
                    replace(
                        lease,
                        holder=None,
                        end_attempts=lease.end_attempts + 1,
                        end_tried_unix=time.time(),
                        end_problem=problem,
                    )
                )

    def forget_old(self) -> None:
        """Drop leases that ended before today (UTC): no budget counts them any more.

        Those on whose nodes chroots were lost stay for `_LOST_KEPT_S`: see `claim.find_lost`.
        """
        now = time.time()
        with self._connect() as db:
            db.execute(
                "DELETE FROM lease WHERE state = ? AND COALESCE(ended_unix, expires_unix)"
                " < CASE chroots WHEN '[]' THEN ? ELSE ? END",
                (LeaseState.GONE.value, day_start(now), now - _LOST_KEPT_S),
            )
            db.execute(FORGET_JOBS, (now - _LOST_KEPT_S,))

    def forget_chroots(self, lease_id: str) -> None:
        """The user gave the lease's chroots away with its node: nobody misses them."""
        with self.transaction() as books:
            lease = books.find(lease_id)
            if lease is not None:
                books.write(replace(lease, chroots=()))

    def key_path(self, lease_id: str) -> Path:
        """Where the lease's client key is, mode 0600."""
        return self.state_dir / "keys" / lease_id


class Transaction:
    """Reading and writing leases over one connection."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def leases(self) -> list[Lease]:
        rows = self._db.execute(
            f"{SELECT} WHERE state <> ? ORDER BY created_unix, id", (LeaseState.GONE.value,)
        )
        return [parse_row(row) for row in rows.fetchall()]

    def gone_homes(self) -> list[Lease]:
        """Leases that are gone, with chroots that nobody has made anew or given away since."""
        rows = self._db.execute(
            f"{SELECT} WHERE state = ? AND chroots <> '[]'", (LeaseState.GONE.value,)
        )
        return [parse_row(row) for row in rows.fetchall()]

    def leases_of(self, remote: str) -> list[Lease]:
        """All leases of a remote, gone ones too: what budgets count."""
        rows = self._db.execute(f"{SELECT} WHERE remote = ? ORDER BY created_unix, id", (remote,))
        return [parse_row(row) for row in rows.fetchall()]

    def find(self, lease_id: str) -> Lease | None:
        row = self._db.execute(f"{SELECT} WHERE id = ?", (lease_id,)).fetchone()
        return None if row is None else parse_row(row)

    def write(self, lease: Lease) -> None:
        self._db.execute(REPLACE, to_row(lease))

    def queue(self, remote: str, arch: str) -> Queue:
        return Queue(self._db, remote, arch)

    def jobs(self) -> list[JobRecord]:
        return [_parse_job(row) for row in self._db.execute(SELECT_JOBS).fetchall()]

    def find_job(self, job_id: str) -> JobRecord | None:
        row = self._db.execute(SELECT_JOB, (job_id,)).fetchone()
        return None if row is None else _parse_job(row)

    def write_job(self, job: JobRecord) -> None:
        self._db.execute(REPLACE_JOB, to_job_row(job))


def _parse_job(row: sqlite3.Row) -> JobRecord:
    try:
        return parse_job_row(row)
    except ValueError as error:
        raise RowError(f"a job: {error}") from error


def _to_note(lease: Lease) -> bool:
    return lease.idle_since_unix is None and lease.abandoned
