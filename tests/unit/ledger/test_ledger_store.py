# SPDX-License-Identifier: GPL-2.0-or-later
"""The ledger's file: many writers, some of which are killed; a full disk; hands that change it."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mock_cloud.errors import CloudError, ConfigError, InputError
from mock_cloud.ledger.entries import (
    FIRST,
    BrokenChain,
    EventKind,
    LedgerEntry,
    LedgerEvent,
    noted_files,
)
from mock_cloud.ledger.store import NAME, Ledger, export, read_export

WRITER = """
import sys, pathlib
from mock_cloud.ledger.entries import LedgerEvent, EventKind
from mock_cloud.ledger.store import Ledger
ledger = Ledger(pathlib.Path(sys.argv[1]))
for number in range(int(sys.argv[3])):
    (entry,) = ledger.append(LedgerEvent(EventKind.BUILT, sys.argv[2], 1, job=str(number)))
    print(number, flush=True)  # only once it is there
"""


def built(builder: str = "local:a", **given: object) -> LedgerEvent:
    return LedgerEvent(EventKind.BUILT, builder, 1_700_000_000, **given)  # type: ignore[arg-type]


def start(place: Path, name: str, count: int) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", WRITER, str(place), name, str(count)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


def jobs(entries: list[LedgerEntry], builder: str) -> list[int]:
    return [int(one.event.job) for one in entries if one.event.builder == builder]


def test_entries_follow_each_other(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    assert ledger.read() == []
    first, second = ledger.append(built(), built("host:b"))
    (third,) = ledger.append(built())
    assert (first.number, first.previous) == (1, FIRST)
    assert (second.previous, third.previous) == (first.sha256, second.sha256)
    assert ledger.read() == [first, second, third]
    assert read_export(export(ledger.read())) == ledger.read()


def test_many_writers_lose_and_double_nothing(tmp_path: Path) -> None:
    writers = {f"local:{number}": start(tmp_path, f"local:{number}", 15) for number in range(6)}
    for writer in writers.values():
        writer.communicate()
        assert writer.returncode == 0
    entries = Ledger(tmp_path).read()
    assert len(entries) == 90
    for name in writers:
        assert jobs(entries, name) == list(range(15))


def test_writers_that_are_killed_lose_and_double_nothing(tmp_path: Path) -> None:
    """What a writer said that it wrote is there once; of the one at work, all or nothing."""
    chance = random.Random(5)  # noqa: S311
    said: dict[str, int] = {}
    for number in range(12):
        name = f"local:{number}"
        writer = start(tmp_path, name, 10_000)
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(chance.randrange(1, 6))]
        time.sleep(chance.random() / 50)
        writer.send_signal(signal.SIGKILL)
        lines += writer.communicate()[0].splitlines()
        said[name] = max(int(line) for line in lines if line.strip().isdigit())
    entries = Ledger(tmp_path).read()
    for name, last in said.items():
        found = jobs(entries, name)
        assert found == list(range(len(found)))
        assert last + 1 <= len(found) <= last + 2
    Ledger(tmp_path).append(built())
    assert len(Ledger(tmp_path).read()) == len(entries) + 1


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for a file system of its own")
def test_a_full_disk_is_said_and_costs_nothing(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(tmp_path)], check=True)
    try:
        ledger = Ledger(tmp_path)
        written = 0
        with pytest.raises(CloudError, match="ledger"):
            for _ in range(2000):
                ledger.append(built(reason="x" * 2000))
                written += 1
        (tmp_path / "ledger.sqlite-wal").exists()
        assert written > 0
        assert len(Ledger(tmp_path).read()) == written
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def change(place: Path, *statements: str) -> None:
    """By somebody who has the file, and takes away what guards it."""
    with sqlite3.connect(place / NAME) as db:
        db.execute("DROP TRIGGER no_change")
        db.execute("DROP TRIGGER no_removal")
        for statement in statements:
            db.execute(statement)
    db.close()


CHANGES: dict[str, tuple[str, ...]] = {
    "edited": ("UPDATE entry SET body = CAST(replace(body, 'local:a', 'local:b') AS BLOB)"
               " WHERE number = 2",),
    "cut at the end": ("DELETE FROM entry WHERE number = 5",),
    "cut in the middle": ("DELETE FROM entry WHERE number = 3",),
    "emptied": ("DELETE FROM entry",),
    "reordered": ("UPDATE entry SET number = 99 WHERE number = 2",
                  "UPDATE entry SET number = 2 WHERE number = 3",
                  "UPDATE entry SET number = 3 WHERE number = 99"),
    "doubled": ("INSERT INTO entry SELECT 6, kind, body FROM entry WHERE number = 5",),
    "renumbered": ("DELETE FROM entry WHERE number = 1",
                   "UPDATE entry SET number = number - 1 WHERE number = 2"),
    "called another kind": ("UPDATE entry SET kind = 'agreed' WHERE number = 2",),
    "of another type": ("UPDATE entry SET body = 7 WHERE number = 4",),
    "not canonical": ("UPDATE entry SET body = CAST(' ' || body AS BLOB) WHERE number = 4",),
    "nested deep": ("UPDATE entry SET body = CAST(replace(hex(zeroblob(9999)), '0', '[') AS BLOB)"
                    " WHERE number = 4",),
}  # fmt: skip


def test_it_is_said_which_entry_does_not_follow(tmp_path: Path) -> None:
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
    ours, theirs = (Ledger(tmp_path / name) for name in ("ours", "theirs"))
    for number in range(3):
        ours.append(built(job=str(number)))
        theirs.append(built(job=f"other-{number}"))
    mixed = [*ours.read()[:2], theirs.read()[2]]
    with pytest.raises(BrokenChain) as caught:
        read_export(export(mixed))
    assert caught.value.message == "the ledger's entry 3 does not follow the one before it"


@pytest.mark.parametrize("name", CHANGES)
def test_a_ledger_that_was_changed_is_refused(tmp_path: Path, name: str) -> None:
    ledger = Ledger(tmp_path)
    for number in range(5):
        ledger.append(built(job=str(number)))
    change(tmp_path, *CHANGES[name])
    with pytest.raises(BrokenChain, match="ledger"):
        ledger.read()
    with pytest.raises(BrokenChain, match="ledger"):
        ledger.decide(lambda _: [built()])


@pytest.mark.parametrize("statement", ["UPDATE entry SET body = ''", "DELETE FROM entry"])
def test_the_file_itself_takes_no_change(tmp_path: Path, statement: str) -> None:
    Ledger(tmp_path).append(built())
    with sqlite3.connect(tmp_path / NAME) as db, pytest.raises(sqlite3.IntegrityError):
        db.execute(statement)
    db.close()
    assert len(Ledger(tmp_path).read()) == 1


EXPORTS: dict[str, Callable[[list[bytes]], bytes]] = {
    "cut short": lambda lines: b"\n".join(lines)[:-5],
    "reordered": lambda lines: b"\n".join([lines[1], lines[0], *lines[2:]]) + b"\n",
    "without the first": lambda lines: b"\n".join(lines[1:]) + b"\n",
    "edited": lambda lines: b"\n".join(lines).replace(b"local:a", b"local:b", 1) + b"\n",
    "no ledger": lambda lines: b"hello\n",
}


@pytest.mark.parametrize("name", EXPORTS)
def test_an_export_that_was_changed_is_refused(tmp_path: Path, name: str) -> None:
    entries = Ledger(tmp_path).append(*[built() for _ in range(5)])
    with pytest.raises(BrokenChain):
        read_export(EXPORTS[name](export(entries).splitlines()))


def test_what_is_no_ledger_is_named(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"no database at all, but long enough to be looked at" * 20)
    with pytest.raises(ConfigError, match=NAME):
        Ledger(tmp_path).read()


@pytest.mark.parametrize("count", [400, 1001, 6000])
def test_a_build_of_many_packages_is_committed_to_and_read_again(
    tmp_path: Path, count: int
) -> None:
    """Else packages of long names end all building: by a ledger that cannot be read."""
    ledger = Ledger(tmp_path)
    files = {f"{'long' * 50}-{number}.noarch.rpm": f"{number:064x}" for number in range(count)}
    (entry,) = ledger.append(built(files=noted_files(files)))
    assert ledger.read() == [entry]
    (digest,) = entry.event.files.values()
    text = "".join(f"{value}  {name}\n" for name, value in sorted(files.items()))
    assert digest == hashlib.sha256(text.encode()).hexdigest()
    few = dict(list(files.items())[:3])
    assert noted_files(few) == few


@pytest.mark.parametrize("event", [
    built(files={str(number): "0" * 64 for number in range(1001)}),
    built(files={f"{number}" * 100: "0" * 64 for number in range(100, 400)}),
    built(reason="r" * 5000),
    built("b" * 301),
])  # fmt: skip
def test_what_could_not_be_read_is_not_written(tmp_path: Path, event: LedgerEvent) -> None:
    ledger = Ledger(tmp_path)
    (first,) = ledger.append(built())
    with pytest.raises(InputError, match="not written"):
        ledger.append(event)
    assert ledger.read() == [first]
