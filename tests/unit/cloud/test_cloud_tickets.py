# SPDX-License-Identifier: GPL-2.0-or-later
"""Who waits for a node: places by number, the dead and the stopped, what a look costs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mock_cloud.cloud import pool
from mock_cloud.cloud.claim import LeaseRequest, Wait
from mock_cloud.cloud.journal import Journal, Transaction
from mock_cloud.cloud.lease import Holder
from mock_cloud.cloud.tickets import Ticket
from mock_cloud.settings import AttestSettings, Remote
from tests.waiting import wait_for

OF = ("ec2", "x86_64")
Waiter = tuple[subprocess.Popen[bytes], Ticket]


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path)


@pytest.fixture
def waiters(journal: Journal) -> Iterator[list[Waiter]]:
    """Three processes with a ticket each, in this order."""
    made: list[Waiter] = []
    for _ in range(3):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        holder = Holder.of(child.pid)
        assert holder is not None
        with journal.transaction() as books:
            ticket = books.queue(*OF).wait(None)
            own = Ticket(ticket.number, *OF, holder)
            books.queue(*OF).wait(own)
        made.append((child, own))
    yield made
    for child, _ in made:
        child.kill()
        child.wait()


def end(waiter: Waiter) -> None:
    waiter[0].kill()
    waiter[0].wait()


def numbers(journal: Journal) -> int:
    with journal._connect() as db:
        return int(db.execute("SELECT COUNT(*) FROM ticket").fetchone()[0])


def test_places_are_in_the_order_of_tickets(journal: Journal, waiters: list[Waiter]) -> None:
    assert [journal.count_ahead(ticket) for _, ticket in waiters] == [0, 1, 2]
    with journal.transaction() as books:
        assert books.queue(*OF).count_ahead(None) == 3
        assert books.queue("ec2", "aarch64").count_ahead(None) == 0


def test_the_dead_in_front_are_dropped(journal: Journal, waiters: list[Waiter]) -> None:
    end(waiters[0])
    assert [journal.count_ahead(ticket) for _, ticket in waiters[1:]] == [0, 1]
    assert numbers(journal) == 2
    end(waiters[1])
    assert journal.count_ahead(waiters[2][1]) == 0 and numbers(journal) == 1


def test_the_dead_behind_the_living_keep_nobody_waiting(
    journal: Journal, waiters: list[Waiter]
) -> None:
    end(waiters[1])
    assert journal.count_ahead(waiters[2][1]) == 2  # nobody has looked so far behind
    end(waiters[0])
    assert journal.count_ahead(waiters[2][1]) == 0


def test_the_stopped_in_front_keep_their_ticket(journal: Journal, waiters: list[Waiter]) -> None:
    child, ticket = waiters[0]
    os.kill(child.pid, signal.SIGSTOP)
    wait_for(lambda: ticket.holder.stopped)
    assert journal.count_ahead(waiters[1][1]) == 0 and numbers(journal) == 3
    os.kill(child.pid, signal.SIGCONT)
    wait_for(lambda: not ticket.holder.stopped)
    assert journal.count_ahead(waiters[1][1]) == 1


def test_who_is_not_first_reads_no_leases_and_says_each_new_place(
    journal: Journal, waiters: list[Waiter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until it is first. Each look at leases would cost a queue of many their time, many times."""
    said: list[str] = []
    remote = Remote("ec2", "ec2", ("x86_64",), AttestSettings(Path("/none"), (), ()))
    turn = pool._Turn(journal, remote, LeaseRequest("mine", "x86_64", remote="ec2"), said.append)
    turn._ticket, turn._place, turn._claimed_s = waiters[2][1], 3, time.monotonic()
    monkeypatch.setattr(Transaction, "leases", lambda _: pytest.fail("leases were read"))
    monkeypatch.setattr(pool, "_LOOK_EVERY_S", 0.01)
    got = Wait(("a busy one",))
    turn.tell(got)

    def tell(phase: str) -> None:
        said.append(phase)
        if "place 2" in phase:
            end(waiters[1])

    turn.on_phase = tell
    end(waiters[0])
    turn.wait(got)
    assert turn.is_first
    assert said == [
        "waiting for a node, place 3 in the queue: a busy one",
        "place 2 in the queue for a node",
    ]
