# SPDX-License-Identifier: GPL-2.0-or-later
"""Nodes that are ended by a process which nobody waits for: the journal knows, whatever comes."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from mock_cloud.cli import main
from mock_cloud.cloud import listing
from mock_cloud.cloud.journal import Journal
from mock_cloud.cloud.lease import Holder, Lease, LeaseState
from mock_cloud.cloud.listing import release
from mock_cloud.cloud.orphans import find_due_leases, reap_local
from mock_cloud.console import Console
from mock_cloud.places import state_dir
from mock_cloud.settings import HostSettings, LeaseLimits, Remote
from mock_cloud.steps.release import ending
from tests.unit.cloud.cloud_in_memory import lease_of
from tests.unit.session.scripted_place import Place
from tests.waiting import wait_for


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Journal:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return Journal(state_dir())


def put(journal: Journal, lease_id: str, **changes: object) -> Lease:
    """A lease; a local one has a directory with files of a node whose supervisor died."""
    lease = lease_of(journal.owner, lease_id, **changes)
    with journal.transaction() as books:
        books.write(lease)
    if lease.provider == "local":
        disk = journal.state_dir / "nodes" / lease_id / "disk"
        disk.mkdir(parents=True)
        (disk / "file").touch()
    return lease


def states(journal: Journal, *leases: str) -> list[LeaseState]:
    found = [journal.find(lease) for lease in leases]
    return [lease.state for lease in found if lease is not None]


def no_file(name: str) -> Remote:
    raise AssertionError("local nodes need no file of their remote")


def test_several_nodes_are_given_up_and_a_process_of_its_own_ends_them(journal: Journal) -> None:
    for name in ("a", "b", "c"):
        put(journal, name, provider="local", chroots=("f40",))
    released = release(journal.state_dir, None, no_file, end_beside=ending.start_ending)
    assert [(one.problem, one.is_ending) for one in released] == [(None, True)] * 3
    wait_for(lambda: journal.leases() == [])
    assert list((journal.state_dir / "nodes").iterdir()) == []
    ended = [journal.find(name) for name in ("a", "b", "c")]
    assert all(lease is not None and lease.chroots == () for lease in ended)


def test_the_journal_knows_before_the_process_is_there(journal: Journal) -> None:
    put(journal, "a", provider="local")

    def look(leases: Sequence[str]) -> None:
        assert states(journal, *leases) == [LeaseState.RELEASING]
        assert not journal.leases()[0].held

    release(journal.state_dir, None, no_file, end_beside=look)
    # It was killed before it did anything: the next command of the owner ends the node.
    assert [one.lease_id for one in reap_local(journal.state_dir)] == ["a"]
    assert states(journal, "a") == [LeaseState.GONE]


def test_a_clouds_node_that_was_given_up_is_due_at_once(journal: Journal) -> None:
    put(journal, "a")
    journal.give_up(["a"])
    assert [one.lease_id for one in find_due_leases(journal.state_dir)] == ["a"]


def test_where_no_process_can_be_started_it_is_waited_for(journal: Journal) -> None:
    put(journal, "a", provider="local")

    def fail(_leases: Sequence[str]) -> None:
        raise BlockingIOError

    (one,) = release(journal.state_dir, None, no_file, end_beside=fail)
    assert (one.problem, one.is_ending) == (None, False)
    assert states(journal, "a") == [LeaseState.GONE]


def test_what_cannot_be_ended_is_said_at_once_and_not_in_the_background(journal: Journal) -> None:
    put(journal, "busy", state=LeaseState.BUSY, holder=Holder.me(), idle_since_unix=None)
    put(journal, "lost", remote="gone")
    code = main(["release", "--all", "--no-wait"])
    assert code == 75
    assert states(journal, "busy") == [LeaseState.BUSY]


def test_what_hinders_the_process_is_in_the_journal(journal: Journal) -> None:
    put(journal, "a", remote="gone")
    journal.give_up(["a"])
    assert not listing.end_given_up(journal, "a", ending.load_remote)
    lease = journal.find("a")
    assert lease is not None and (lease.end_attempts, lease.held) == (1, False)
    assert "credentials" in lease.end_problem or "gone" in lease.end_problem


@pytest.mark.parametrize("words", [["--wait"], ["--json"], []])
def test_scripts_wait(
    journal: Journal, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    put(journal, "a", provider="local")
    assert main(["release", "--all", *words]) == 0
    assert states(journal, "a") == [LeaseState.GONE]
    if words == ["--json"]:
        (one,) = json.loads(capsys.readouterr().out)
        assert (one["problem"], one["is_ending"]) == (None, False)


def test_release_waits_for_what_another_process_ends(journal: Journal) -> None:
    lease = put(journal, "a", state=LeaseState.RELEASING, holder=Holder.me())
    seen = threading.Event()

    def close() -> None:
        seen.wait(60)
        journal.close("a")

    thread = threading.Thread(target=close)
    thread.start()
    real_find = Journal.find

    class Watched(Journal):
        def find(self, lease_id: str) -> Lease | None:
            seen.set()
            return real_find(self, lease_id)

    watched = Watched(journal.state_dir)
    done = listing._release(watched, lease, load=no_file, force=False)
    thread.join()
    assert done.problem is None and states(journal, "a") == [LeaseState.GONE]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    for name in ("STATE", "CACHE", "CONFIG"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    monkeypatch.setenv("TERM", "dumb")
    place = Place(tmp_path)
    place.enter(monkeypatch.setattr)
    return place


@pytest.mark.parametrize("is_watched", [True, False])
def test_a_build_that_is_watched_does_not_wait_for_its_nodes_end(
    place: Place, monkeypatch: pytest.MonkeyPatch, is_watched: bool
) -> None:
    """The next one does, where there may be no more nodes: however short its own patience is."""
    left: list[str] = []
    monkeypatch.setattr(ending, "start_ending", lambda leases, **_: left.extend(leases))
    screen = Terminal() if is_watched else io.StringIO()
    limits = LeaseLimits(max_nodes=1, idle_ttl_s=0, wait_s=0)
    try:
        assert place.build(console=Console(stream=screen), lease=limits) == 0
        ended = place.cloud.destroyed()
        assert (len(left), len(ended)) == ((1, 0) if is_watched else (0, 1))
        if is_watched:
            assert states(place.journal, *left) == [LeaseState.RELEASING]
        assert place.build(console=Console(stream=screen), lease=limits) == 0
        assert place.cloud.destroyed()[:1] == (left[:1] or ended)
        assert len(place.cloud.made) == 2
    finally:
        place.cloud.close()


def test_a_key_that_wants_a_touch_and_kojis_builder_wait(place: Place) -> None:
    console = Console(stream=Terminal())
    build = ending.Build(remote=place.remote, console=console)
    assert ending.find_end_beside(build) is not None
    build.shadow = object()  # type: ignore[assignment]
    assert ending.find_end_beside(build) is None
    build.shadow = None
    host = HostSettings("alpha", "alpha.example", "a lender", "x86_64", certificate=True)
    build.remote = replace(place.remote, hosts=(host,))
    assert ending.find_end_beside(build) is None
