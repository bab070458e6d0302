# SPDX-License-Identifier: GPL-2.0-or-later
"""The queue for a remote's nodes: who waits draws a number, and goes when no lower one waits.

Numbers are rows of the journal. One whose process has died counts no more: nothing has to be
removed after a kill; one whose process is stopped keeps its place, and no other waits for it. Who
goes on in a chroot that lives on a node waits for that node alone, in no queue: it would be served
by no other, and serves no other.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from mock_cloud.cloud.lease import Holder
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.decode import decode_bytes, to_json

CREATE_TICKETS: Final = """
CREATE TABLE ticket (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    remote TEXT NOT NULL,
    arch TEXT NOT NULL,
    holder TEXT NOT NULL
) STRICT
"""


_NO_END: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Ticket:
    """A place in the queue for nodes of `remote` with architecture `arch`."""

    number: int
    remote: str
    arch: str
    holder: Holder


class Queue:
    """The tickets of one remote and architecture, within a transaction of the journal."""

    def __init__(self, db: sqlite3.Connection, remote: str, arch: str) -> None:
        self._db = db
        self._of = (remote, arch)

    def count_ahead(self, own: Ticket | None) -> int:
        """How many go before `own`, which is all without one; 0: it is its turn.

        The dead and the stopped in front do not count, and the former are dropped. Those behind a
        living one do until they are in front: each look at all would cost a long queue dearly.
        """
        last = _NO_END if own is None else own.number
        first = self._find_living(last)
        row = self._db.execute(
            "SELECT COUNT(*) FROM ticket WHERE remote = ? AND arch = ? AND number BETWEEN ? AND ?",
            (*self._of, first, last - 1),
        ).fetchone()
        return int(row[0])

    def _find_living(self, before: int) -> int:
        """The lowest number below `before` that somebody waits with; `before` if there is none."""
        number = 0
        while True:
            row = self._db.execute(
                "SELECT number, holder FROM ticket WHERE remote = ? AND arch = ?"
                " AND number > ? AND number < ? ORDER BY number LIMIT 1",
                (*self._of, number, before),
            ).fetchone()
            if row is None:
                return before
            number = int(row[0])
            ticket = Ticket(number, *self._of, decode_bytes(Holder, row[1]))
            if not ticket.holder.alive:
                self.leave(ticket)
            elif not ticket.holder.stopped:
                return number

    def wait(self, own: Ticket | None) -> Ticket:
        """The ticket of this process, drawn if it has none, and in its old place if it has one."""
        holder = Holder.me() if own is None else own.holder
        number = None if own is None else own.number
        cursor = self._db.execute(
            "INSERT OR REPLACE INTO ticket (number, remote, arch, holder) VALUES (?, ?, ?, ?)",
            (number, *self._of, to_json(holder).decode()),
        )
        return own or Ticket(int(cursor.lastrowid or 0), *self._of, holder)

    def leave(self, own: Ticket | None) -> None:
        """Wait no longer."""
        if own is not None:
            self._db.execute("DELETE FROM ticket WHERE number = ?", (own.number,))
