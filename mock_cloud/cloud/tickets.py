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

    def ahead(self, own: Ticket | None) -> tuple[Ticket, ...]:
        """Those who wait and go before `own`, which is all without one. The dead are dropped."""
        rows = self._db.execute(
            "SELECT number, holder FROM ticket WHERE remote = ? AND arch = ? ORDER BY number",
            self._of,
        ).fetchall()
        waiting = []
        for row in rows:
            ticket = Ticket(row[0], *self._of, decode_bytes(Holder, row[1]))
            if not ticket.holder.alive:
                self.leave(ticket)
            elif not ticket.holder.stopped and (own is None or ticket.number < own.number):
                waiting.append(ticket)
        return tuple(waiting)

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
