# SPDX-License-Identifier: GPL-2.0-or-later
import multiprocessing
import sqlite3
import stat
import threading
import time
from dataclasses import replace
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from mock_cloud.cloud.journal import Journal
from mock_cloud.cloud.lease import (
    Guest,
    Holder,
    LastVerdict,
    Lease,
    LeaseState,
    NextHostKey,
    Sharing,
)
from mock_cloud.cloud.provider import ExpectedMount, InjectedFile, InjectedType
from mock_cloud.errors import CloudError, ConfigError
from mock_cloud.model import HostKey, NodeAddress
from mock_cloud.sshkeys import make_key_pair

DEAD = Holder(1, "another-boot/1")


def full_lease(lease_id: str = "a1", state: LeaseState = LeaseState.BUSY) -> Lease:
    return Lease(
        id=lease_id,
        remote="lab",
        owner="me@here:0",
        provider="local",
        settings="0" * 64,
        state=state,
        created_unix=time.time(),
        expires_unix=time.time() + 100,
        idle_ttl_s=60.0,
        builds=3,
        chroot="one",
        chroots=("one", "two"),
        holder=Holder.me(),
        address=NodeAddress("127.1.2.3", 22, "root", make_key_pair().public),
        handle="h",
        injected={"/etc/x": InjectedFile(InjectedType.FILE, 0o600, 1, 2, b"\0\xff")},
        mounts=(ExpectedMount("/", "overlay"),),
        layers={"/var/lib/mock-cloud/layers/k": "ab"},
        verdict=LastVerdict("cd", 1.5, "b", "boot", ("root",)),
        arch="x86_64",
        kind="m7a.large eu-west-1b spot",
        price_per_hour=0.125,
        ended_unix=5.5,
        end_attempts=2,
        end_tried_unix=4.5,
        end_problem="the API is out",
        has_bootstrap_key=True,
        next_host_key=NextHostKey(
            make_key_pair().public,
            {"/etc/k": InjectedFile(InjectedType.FILE, 0o600, sha256="ab" * 32, size_bytes=9)},
        ),
        sharing=Sharing("job-1", (Guest(Holder(7, "boot/8"), "job-2"),), foreign=True),
    )


def put(journal: Journal, *leases: Lease) -> None:
    with journal.transaction() as books:
        for item in leases:
            books.write(item)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    lease = full_lease()
    put(Journal(tmp_path), lease)
    assert Journal(tmp_path).find("a1") == lease
    bare = replace(
        lease,
        id="b2",
        holder=None,
        address=None,
        idle_since_unix=5.0,
        injected={},
        next_host_key=None,
    )
    put(Journal(tmp_path), bare)
    assert Journal(tmp_path).find("b2") == bare


def test_only_the_user_may_read_it(tmp_path: Path) -> None:
    state = tmp_path / "a" / "state"
    journal = Journal(state)
    with journal.transaction() as books:
        books.write(full_lease())
        for file in state.iterdir():
            expected = 0o700 if file.is_dir() else 0o600
            assert stat.S_IMODE(file.stat().st_mode) == expected, file
    assert stat.S_IMODE(state.stat().st_mode) == 0o700


def test_many_processes_make_it_at_once(tmp_path: Path) -> None:
    """SQLite answers "database is locked" at once to the second that turns a file to WAL."""
    context = multiprocessing.get_context("fork")
    for attempt in range(30):
        started = context.Barrier(8)

        def make(state: Path = tmp_path / str(attempt), started: Barrier = started) -> None:
            started.wait()
            Journal(state).leases()

        processes = [context.Process(target=make) for _ in range(8)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0] * 8
        left = {file.name for file in (tmp_path / str(attempt)).iterdir()}
        assert left <= {"keys", "leases.sqlite", "leases.sqlite-wal", "leases.sqlite-shm"}


def test_an_exception_undoes_a_transaction(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    with pytest.raises(KeyError), journal.transaction() as books:
        books.write(full_lease())
        raise KeyError
    assert journal.leases() == []


def test_transactions_exclude_each_other(tmp_path: Path) -> None:
    put(Journal(tmp_path), replace(full_lease(), builds=0))

    def count_up() -> None:
        for _ in range(10):
            with Journal(tmp_path).transaction() as books:
                lease = books.find("a1")
                assert lease is not None
                books.write(replace(lease, builds=lease.builds + 1))

    threads = [threading.Thread(target=count_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = Journal(tmp_path).find("a1")
    assert found is not None and found.builds == 40


def test_closing_forgets_secrets_and_is_idempotent(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    put(journal, full_lease())
    journal.key_path("a1").write_text("key")
    for _ in range(2):
        journal.close("a1")
        found = journal.find("a1")
        assert found is not None
        assert (found.state, found.injected, found.holder) == (LeaseState.GONE, {}, None)
        assert found.ended_unix is not None
        assert found.next_host_key is None
        assert not journal.key_path("a1").exists()
    assert journal.leases() == []
    journal.close("never-was")


def test_leases_of_earlier_days_are_forgotten(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    today = time.time() // 86400 * 86400
    gone = replace(full_lease("today"), state=LeaseState.GONE, ended_unix=today, chroots=())
    old = replace(gone, id="old", ended_unix=today - 1)
    put(journal, gone, old, replace(old, id="live", state=LeaseState.READY, ended_unix=None))
    journal.forget_old()
    assert journal.find("old") is None
    with_chroot = replace(old, id="lost", chroots=("f40",))
    put(journal, with_chroot, replace(with_chroot, id="older", ended_unix=today - 31 * 86400))
    journal.forget_old()
    assert journal.find("lost") is not None and journal.find("older") is None
    assert journal.find("today") is not None
    assert journal.find("live") is not None


def test_what_hindered_an_end_is_noted(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    put(journal, full_lease())
    for problem in ("the API is out", "still out"):
        journal.note_end_failed("a1", problem)
    found = journal.find("a1")
    assert found is not None
    assert (found.end_attempts, found.end_problem) == (4, "still out")
    assert found.end_tried_unix is not None and found.end_tried_unix <= time.time()
    journal.note_end_failed("never-was", "no matter")


def test_a_due_lease_is_moved_to_releasing(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    put(journal, replace(full_lease(), expires_unix=1.0))
    assert journal.find_due("a1") == "expired"
    found = journal.find("a1")
    assert found is not None and found.state is LeaseState.RELEASING
    assert journal.find_due("unknown") == "no longer in the journal"


def test_the_grace_of_an_abandoned_lease_starts_when_it_is_noticed(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    put(journal, replace(full_lease(), holder=DEAD))
    assert journal.find_due("a1") is None
    found = journal.find("a1")
    assert found is not None and found.idle_since_unix is not None
    assert time.time() - found.idle_since_unix < 5
    put(journal, replace(found, idle_since_unix=time.time() - 61))
    assert journal.find_due("a1") == "its controller died"


def test_without_an_idle_time_an_abandoned_lease_ends_at_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    put(journal, replace(full_lease(), holder=DEAD, idle_ttl_s=0.0))
    assert journal.find_due("a1") == "its controller died"


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "leases.sqlite").write_bytes(b"not a database, but long enough to be read\n" * 50)
    with pytest.raises(ConfigError, match=r"leases\.sqlite is damaged"):
        Journal(tmp_path)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("state", "asleep"),
        ("chroots", "{}"),
        ("chroots", "[1]"),
        ("holder", "[1]"),
        ("holder", '["1", "x"]'),
        ("address", '["h", 22, "root", "nokey"]'),
        ("injected", '{"/x": ["f", 1]}'),
        ("injected", '{"/x": ["q", 1, 0, 0, "", "", 0]}'),
        ("next_host_key", "[1, 2]"),
        ("next_host_key", '["ssh-ed25519 AAAA"]'),
        ("mounts", '[["/"]]'),
        ("layers", '{"a": 1}'),
        ("layers", "nonsense"),
        ("sharing", '["job", []]'),
        ("sharing", '["job", 1, false]'),
        ("sharing", '["job", [1], false]'),
        ("sharing", '["job", [[1, "x"]], false]'),
        ("sharing", '["job", [["1", "x", "job"]], false]'),
        ("sharing", '["job", [], 0]'),
    ],
)
def test_a_damaged_row_is_named(tmp_path: Path, column: str, value: str) -> None:
    journal = Journal(tmp_path)
    put(journal, full_lease())
    with sqlite3.connect(journal.path) as db:
        db.execute(f"UPDATE lease SET {column} = ?", (value,))  # noqa: S608
    db.close()
    with pytest.raises(ConfigError, match="lease 'a1'"):
        journal.leases()


@pytest.mark.parametrize("version", [5, 99])
def test_another_version_is_refused(tmp_path: Path, version: int) -> None:
    journal = Journal(tmp_path)
    db = sqlite3.connect(journal.path)
    db.execute(f"PRAGMA user_version = {version}")
    db.close()
    with pytest.raises(ConfigError, match=f"schema {version}"):
        Journal(tmp_path)


def test_a_foreign_database_is_not_taken_over(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "leases.sqlite")
    db.execute("CREATE TABLE other (x)")
    db.close()
    with pytest.raises(ConfigError, match="schema 0"):
        Journal(tmp_path)


def test_a_removed_journal_is_not_made_anew_by_reading(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.path.unlink()
    with pytest.raises(CloudError, match="cannot be used"):
        journal.leases()
    assert not journal.path.exists()


def test_an_unusable_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file/state"):
        Journal(tmp_path / "file" / "state")


def test_a_lease_keeps_the_host_key_exactly(tmp_path: Path) -> None:
    key = HostKey("ssh-ed25519", bytes(range(51)))
    journal = Journal(tmp_path)
    put(journal, replace(full_lease(), address=NodeAddress("::1", 2222, "u", key)))
    found = journal.find("a1")
    assert found is not None and found.address is not None
    assert found.address.host_key == key
