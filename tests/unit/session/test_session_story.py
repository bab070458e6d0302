# SPDX-License-Identifier: GPL-2.0-or-later
"""The story of a build, all steps in one process: without root, a lab, or a node that does work.

SSH, frames, verdicts, leases, the journal, staging and provenance are the real ones. What a node
would do is a `Script`; the provider makes nothing.
"""

from __future__ import annotations

import io
import os
import signal
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mock_cloud import session
from mock_cloud.attest.verdict import NodeRefused
from mock_cloud.cli import attach
from mock_cloud.cli.verbs import make_parser
from mock_cloud.cloud.apis.texts import NoCapacity
from mock_cloud.cloud.jobs import JobPhase
from mock_cloud.cloud.journal import Journal, Transaction
from mock_cloud.cloud.lease import Holder, LeaseState
from mock_cloud.cloud.listing import release
from mock_cloud.console import Console
from mock_cloud.errors import (
    ChrootGone,
    CloudError,
    InputError,
    JournalError,
    LocalDiskFull,
    MockCloudError,
    ResultError,
    TransportError,
)
from mock_cloud.exit_status import Stopped, signals_raise
from mock_cloud.invocation.parser import parse_command_line
from mock_cloud.provenance.requirements import Requirements
from mock_cloud.provenance.verification import verify_results
from mock_cloud.settings import BuildSettings, LeaseLimits, SecondLook
from mock_cloud.steps.job import run_job
from mock_cloud.steps.sign import record
from mock_cloud.steps.sign.signers import find_signer
from mock_cloud.wire.job_request import BUILDDIR_ARCHIVE
from mock_cloud.wire.terminal_log import STDERR
from tests.tree_archives import archive, directory, file
from tests.unit.attest import attest_builder
from tests.unit.session.scripted_node import Script, ScriptedNode
from tests.unit.session.scripted_place import PACKAGE, Place
from tests.unit.signed.package_maker import package_file
from tests.waiting import wait_for


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    for name in ("STATE", "CACHE", "CONFIG"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    place = Place(tmp_path)
    place.enter(monkeypatch.setattr)
    yield place
    place.cloud.close()


def test_attested_sent_built_fetched_signed_and_kept_warm(place: Place) -> None:
    assert place.build() == 0
    (node,) = place.cloud.made
    order = [one for one in node.asked if one not in ("hello", "headers", "get", "order")]
    assert order == [
        "reload", "measure", "trust", "lease", "close_metadata", "have", "put", "put_end", "reach",
        "job_start", "job_follow", "results", "results", "forget", "lease",
    ]  # fmt: skip
    assert place.srpm.read_bytes() in node.blobs.values()
    assert place.names() == {
        PACKAGE, "build.log", "remote_attestation.log", "remote_order.log",
        "remote_provenance.json", "remote_evidence.zip",
    }  # fmt: skip
    assert (place.results / "build.log").read_bytes() == b"+ make\n+ done\n"
    assert (place.results / "remote_order.log").read_text() == "the agent's own word\n"
    assert "node trusted (tier 1)" in place.screen.getvalue()
    key = find_signer(place.remote, Console(stream=io.StringIO())).public
    found = verify_results(place.results, [key], Requirements(), time.time()).signed.provenance
    assert set(found.results) == {PACKAGE} and found.used.node.remote == "cloud"
    lease = place.lease
    assert (lease.state, lease.chroots, lease.job) == (LeaseState.READY, ("small",), "")
    (job,) = place.journal.jobs()
    assert (job.state, job.exit) == (JobPhase.ENDED, 0)


@pytest.mark.parametrize(("chroot", "grace_s"), [("small", 3600.0), ("koji/small", 1800.0)])
def test_how_long_a_job_waits_for_its_controller(place: Place, chroot: str, grace_s: float) -> None:
    """Nobody takes up a job of kojid's: its node stays for the idle time and no longer."""
    (place.etc / "koji").mkdir()
    (place.etc / "koji/small.cfg").write_text((place.etc / "small.cfg").read_text())
    lease = LeaseLimits(idle_ttl_s=1800.0, grace_s=3600.0)
    assert place.build(chroot=chroot, lease=lease) == 0
    (node,) = place.cloud.made
    assert node.graces_s == [grace_s + 60, 1860]


def test_a_clock_that_is_set_back_spoils_no_provenance(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a build says of its end verifies, though by the clock that was before its beginning."""
    real_time = time.time
    write = record._write

    def write_an_hour_ago(*given: Any) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda: real_time() - 3600)
            write(*given)

    monkeypatch.setattr(record, "_write", write_an_hour_ago)
    assert place.build() == 0
    key = find_signer(place.remote, Console(stream=io.StringIO())).public
    found = verify_results(place.results, [key], Requirements(), time.time()).signed.provenance
    assert found.finished_unix >= found.started_unix


def test_the_next_build_takes_the_warm_node(place: Place) -> None:
    assert place.build() == place.build() == 0
    (node,) = place.cloud.made
    assert node.asked.count("measure") == 2 and place.lease.builds == 2
    assert "warm node" in place.screen.getvalue()


def test_a_changed_node_gets_nothing_and_is_ended(place: Place) -> None:
    def spoil(evidence: attest_builder.Node, number: int) -> None:
        evidence.files["/usr/sbin/sshd"][6] = "0" * 64

    place.cloud.scripts[0].spoil = spoil
    with pytest.raises(NodeRefused):
        place.build()
    (node,) = place.cloud.made
    assert not {"trust", "have", "put", "job_start"} & set(node.asked)
    assert place.journal.leases() == [] and len(place.cloud.destroyed()) == 1
    assert "refused: " in place.screen.getvalue()
    assert place.names() == {"remote_attestation.log", "remote_order.log"}


def test_a_node_that_changes_while_it_builds_is_not_believed(place: Place) -> None:
    def spoil(evidence: attest_builder.Node, number: int) -> None:
        if number > 1:
            evidence.files["/etc/passwd"][6] = "0" * 64

    place.cloud.scripts[0].spoil = spoil
    settings = replace(place.remote.attest, second_look=SecondLook.ALWAYS)
    with pytest.raises(NodeRefused):
        place.build(attest=settings)
    assert PACKAGE not in place.names() and place.journal.leases() == []


def test_a_second_look_at_a_good_node(place: Place) -> None:
    settings = replace(place.remote.attest, second_look=SecondLook.ALWAYS)
    assert place.build(attest=settings) == 0
    assert place.cloud.made[0].asked.count("measure") == 2
    assert "the node is unchanged after the build" in place.screen.getvalue()
    assert PACKAGE in place.names()


def test_a_lost_line_is_replaced_and_no_byte_is_lost_or_twice(place: Place) -> None:
    place.cloud.scripts[0].cuts = 2
    assert place.build() == 0
    (node,) = place.cloud.made
    assert node.asked.count("job_follow") == 3 and node.asked.count("job_start") == 1
    assert node.asked.count("measure") == 1 and node.asked.count("trust") == 3
    assert (place.results / "build.log").read_bytes() == b"+ make\n+ done\n"
    assert "reached again after" in place.screen.getvalue()


def test_a_package_that_fails_is_not_tried_again(place: Place) -> None:
    place.cloud.scripts[0].exit = 1
    assert place.build() == 1
    assert len(place.cloud.made) == 1 and place.lease.state is LeaseState.READY
    assert PACKAGE in place.names()


@pytest.mark.parametrize("fault", [Script(exit=None), Script(exit=75, message="no space")])
def test_a_node_at_fault_is_replaced(place: Place, fault: Script) -> None:
    place.cloud.scripts.insert(0, fault)
    assert place.build() == 0
    first, second = place.cloud.made
    assert first.asked.count("job_start") == second.asked.count("job_start") == 1
    assert len(place.cloud.destroyed()) == 1 and place.lease.state is LeaseState.READY
    assert "another one is tried, the last" in place.screen.getvalue()
    assert PACKAGE in place.names()


def test_a_node_that_could_not_be_ended_is_not_said_to_be(place: Place) -> None:
    def fall_silent(_node: ScriptedNode) -> None:
        place.cloud.is_out = True

    place.cloud.scripts.insert(0, Script(exit=None, while_followed=fall_silent))
    with pytest.raises(MockCloudError) as caught:
        place.build(lease=LeaseLimits(max_nodes=1, wait_s=0))
    said = place.screen.getvalue()
    assert "another one is tried" in said and "the node was ended" not in said
    assert "the API is out" in said
    assert "became free" in caught.value.message and caught.value.exit_code == 75
    assert (place.lease.state, place.lease.end_problem) == (LeaseState.RELEASING, "the API is out")


def test_nothing_is_called_done_before_its_results_are_here(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = place.cloud.scripts[0]
    script.logs["terminal"] = _lines("Done(x) 0", "Results and/or logs in: /r")
    script.damaged = True
    with pytest.raises(ResultError):
        place.build()
    assert "Done(" not in place.screen.getvalue() and "logs in:" not in place.screen.getvalue()
    script.damaged = False
    was_there: list[bool] = []
    real_text = Console.text

    def note(console: Console, text: str) -> None:
        if "Done(" in text:
            was_there.append(PACKAGE in place.names())
        real_text(console, text)

    monkeypatch.setattr(Console, "text", note)
    assert place.build() == 0
    assert was_there == [True]


def test_a_full_state_disk_costs_no_finished_build(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite's own word for it, from the job's end on."""
    is_full = False

    def fill(_node: ScriptedNode) -> None:
        nonlocal is_full
        is_full = True

    real_transaction = Journal.transaction

    def transaction(journal: Journal) -> AbstractContextManager[Transaction]:
        if is_full:
            raise JournalError(f"the lease journal {journal.path}: database or disk is full")
        return real_transaction(journal)

    monkeypatch.setattr(Journal, "transaction", transaction)
    place.cloud.scripts[0].while_followed = fill
    assert place.build() == 0
    assert PACKAGE in place.names() and len(place.cloud.made) == 1
    assert place.cloud.destroyed() == []
    assert "database or disk is full" in place.screen.getvalue()


def test_without_retries_a_node_at_fault_is_the_end(place: Place) -> None:
    place.cloud.scripts.insert(0, Script(exit=None))
    with pytest.raises(TransportError, match="vanished"):
        place.build(build=BuildSettings(retries=0))
    assert len(place.cloud.made) == 1 and place.journal.leases() == []
    (job,) = place.journal.jobs()
    assert job.state is JobPhase.ENDED and "vanished" in job.problem


def test_results_that_are_not_as_listed_are_not_published(place: Place) -> None:
    place.cloud.scripts[0].damaged = True
    with pytest.raises(ResultError):
        place.build()
    assert PACKAGE not in place.names() and place.journal.leases() == []


def test_another_remote_takes_the_place_of_one_without_nodes(place: Place) -> None:
    place.cloud.has_none = NoCapacity("no capacity")
    with pytest.raises(NoCapacity):
        place.build(fallback=("missing",))
    said = place.screen.getvalue()
    assert "fallback missing: " in said and place.journal.leases() == []


def test_ctrl_c_stops_the_job_and_ends_a_new_node(place: Place) -> None:
    def interrupt(node: ScriptedNode) -> None:
        if "job_cancel" not in node.asked:
            os.kill(os.getpid(), signal.SIGINT)
            while "job_cancel" not in node.asked:
                time.sleep(0.01)

    place.cloud.scripts[0].while_followed = interrupt
    with pytest.raises(Stopped) as stopped, signals_raise():
        place.build()
    assert stopped.value.exit_code == 7
    (node,) = place.cloud.made
    assert "results" not in node.asked and PACKAGE not in place.names()
    assert place.journal.leases() == []


def test_a_node_that_its_user_releases_by_force_is_not_replaced(place: Place) -> None:
    def give_back(node: ScriptedNode) -> None:
        (done,) = release(place.path / "state/mock-cloud", None, lambda _: place.remote, force=True)
        assert done.problem is None
        node.vanish()

    place.cloud.scripts[0].while_followed = give_back
    with pytest.raises(MockCloudError) as caught:
        place.build(build=BuildSettings(retries=2))
    assert len(place.cloud.made) == 1
    assert "mock-cloud release" in caught.value.message and caught.value.exit_code == 75
    assert "another one is tried" not in place.screen.getvalue()


@pytest.mark.parametrize(("presses", "is_cut"), [(1, False), (2, False), (1, True)])
def test_ctrl_c_on_a_dead_line_leaves_the_rest_to_the_background(
    place: Place, monkeypatch: pytest.MonkeyPatch, presses: int, is_cut: bool
) -> None:
    """At the first one nobody waits for long, at a second one not at all; the node is not ended."""
    started: list[tuple[str, ...]] = []
    monkeypatch.setattr(run_job, "start_keeper", lambda _, *words, **__: started.append(words))
    monkeypatch.setattr(run_job, "_ANSWERS_WITHIN_S", 0.2 if presses == 1 else 600.0)
    over = threading.Event()

    def interrupt(node: ScriptedNode) -> None:
        node.is_deaf = True
        if is_cut:
            node.vanish()
            wait_for(lambda: "it is tried again until" in place.screen.getvalue())
        os.kill(os.getpid(), signal.SIGINT)
        if presses == 2:
            wait_for(lambda: "stopping the job" in place.screen.getvalue())
            os.kill(os.getpid(), signal.SIGINT)
        over.wait(60)

    place.cloud.scripts[0].while_followed = interrupt
    with pytest.raises(Stopped) as stopped, signals_raise():
        place.build()
    over.set()
    said = place.screen.getvalue()
    assert stopped.value.exit_code == 7 and started == [("--cancel",)]
    assert ("did not answer within 0.2 s" in said) is (presses == 1 and not is_cut)
    assert "is stopped in the background" in said
    (job,) = place.journal.jobs()
    assert (job.state, place.lease.job) == (JobPhase.RUNNING, job.id)
    assert place.cloud.destroyed() == []


def test_a_full_disk_here_leaves_the_job_and_attach_takes_it_up(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mock_cloud.results import staging

    def full(*_: object) -> None:
        raise LocalDiskFull("full")

    with monkeypatch.context() as patched:
        patched.setattr(staging, "check_space", full)
        with pytest.raises(LocalDiskFull) as caught:
            place.build()
    (job,) = place.journal.jobs()
    assert caught.value.hint is not None and f"mock-cloud attach {job.id}" in caught.value.hint
    assert place.lease.state is LeaseState.BUSY and PACKAGE not in place.names()

    dead = Holder(1, "another-boot/1")  # in life it is another command
    with place.journal.transaction() as books:
        books.write(replace(place.lease, holder=dead))
        books.write_job(replace(job, holder=dead))
    assert session.take_up(job, place.remote, Console(stream=place.screen)) == 0
    (node,) = place.cloud.made
    assert node.asked.count("job_start") == 1 and node.asked.count("measure") == 1
    assert PACKAGE in place.names() and "remote_provenance.json" in place.names()
    assert place.lease.state is LeaseState.READY


def test_a_shell_in_a_jobs_chroot_as_long_as_that_is_on_a_node(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.cloud.scripts[0].exit = 1
    assert place.build() == 1
    (job,) = place.journal.jobs()
    became: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _, argv: became.append(argv))
    monkeypatch.chdir(place.path)
    arguments = make_parser().parse_args(["attach", "--shell", job.id])
    monkeypatch.setattr(attach, "_attach", lambda *_: 0)  # this process goes on, and should not
    attach.run(arguments, Console(stream=io.StringIO()))
    line = parse_command_line(became[0][3:], {})
    assert (line.mode, line.chroot, line.remote) == ("shell", "small", "cloud")
    assert line.configdir == str(place.etc)
    place.journal.close(place.lease.id)
    with pytest.raises(InputError, match=r"chroot small of job .* is on no node"):
        attach.run(arguments, Console(stream=io.StringIO()))


def test_a_job_whose_node_is_gone_cannot_be_taken_up(place: Place) -> None:
    assert place.build() == 0
    (job,) = place.journal.jobs()
    with pytest.raises(CloudError):
        session.take_up(job, place.remote, Console(stream=place.screen))


def _lines(*lines: str) -> bytes:
    """mock's lines on the terminal, as the node's log of it has them."""
    texts = [f"INFO: {line}\n".encode() for line in lines]
    return b"".join(struct.pack(">BI", STDERR, len(text)) + text for text in texts)


def _two(place: Place) -> tuple[Path, Path]:
    other = place.path / "other-1-1.src.rpm"
    other.write_bytes(place.srpm.read_bytes())
    script = place.cloud.scripts[0]
    script.logs["terminal"] = _lines(
        f"Start({place.srpm})", f"Done({place.srpm})", "Results and/or logs in: /r",
        f"Start({other})", f"Done({other})",
    )  # fmt: skip
    return place.srpm, other


def _wait_for(is_so: Callable[[], bool]) -> bool:
    until = time.monotonic() + 20
    while not (found := is_so()) and time.monotonic() < until:
        time.sleep(0.02)
    return found


def test_a_package_is_in_place_while_the_next_one_is_built(place: Place) -> None:
    script, (first, second) = place.cloud.scripts[0], _two(place)
    later = "other-1-1.noarch.rpm"
    seen: list[set[str]] = []

    def look(node: ScriptedNode) -> None:
        assert _wait_for(lambda: PACKAGE in place.names())
        seen.append(place.names())
        script.results[later] = script.results[PACKAGE]

    script.while_followed = look
    assert place.build("--rebuild", str(first), str(second)) == 0
    assert later not in seen[0] and {PACKAGE, later} <= place.names()
    (node,) = place.cloud.made
    assert node.asked.count("get") == 2 and node.asked.count("job_follow") == 1
    assert node.asked.count("join") == 1
    said = place.screen.getvalue()
    assert said.index(f"Done({first})") < said.index(f"Start({second})")
    key = find_signer(place.remote, Console(stream=io.StringIO())).public
    found = verify_results(place.results, [key], Requirements(), time.time()).signed.provenance
    assert set(found.results) == {PACKAGE, later}


def test_a_package_that_was_published_and_is_another_one_at_the_end(place: Place) -> None:
    script, srpms = place.cloud.scripts[0], _two(place)

    def change(node: ScriptedNode) -> None:
        assert _wait_for(lambda: PACKAGE in place.names())
        script.results[PACKAGE] = package_file("tiny", b"another", [])

    script.while_followed = change
    assert place.build("--rebuild", *map(str, srpms)) == 0
    assert (place.results / PACKAGE).read_bytes() == script.results[PACKAGE]


def test_a_second_look_comes_before_each_package(place: Place) -> None:
    srpms = _two(place)
    before: list[set[str]] = []
    place.cloud.scripts[0].while_followed = lambda node: before.append(place.names())
    settings = replace(place.remote.attest, second_look=SecondLook.ALWAYS)
    assert place.build("--rebuild", *map(str, srpms), attest=settings) == 0
    (node,) = place.cloud.made
    assert PACKAGE not in before[0] and "join" not in node.asked and PACKAGE in place.names()


def test_what_is_done_early_is_checked_as_at_the_end(place: Place) -> None:
    script, srpms = place.cloud.scripts[0], _two(place)
    script.logs["terminal"] *= 50
    script.damaged = True
    with pytest.raises(ResultError):
        place.build("--rebuild", *map(str, srpms))
    (node,) = place.cloud.made
    assert PACKAGE not in place.names() and node.asked.count("join") == 1


def test_init_fetches_no_packages_and_leaves_a_chroot(place: Place) -> None:
    place.cloud.scripts[0].results.clear()
    place.cloud.scripts[0].logs = {"root.log": b"INFO installed\n"}
    assert place.build("--init") == 0
    assert "remote_provenance.json" not in place.names() and "root.log" in place.names()
    assert place.lease.chroots == ("small",)


def test_a_chain_counts_on_no_chroot_of_an_earlier_command(place: Place) -> None:
    """It cleans before each package, as --rebuild does: one whose node has ended is not missed."""
    place.cloud.scripts[0].results.clear()
    assert place.build("--init") == 0
    place.journal.close(place.lease.id)
    local = str(place.path / "local")
    with pytest.raises(ChrootGone):
        place.build("--chain", "--no-clean", "--localrepo", local, str(place.srpm))
    assert place.build("--chain", "--localrepo", local, str(place.srpm)) == 0
    assert len(place.cloud.made) == 2


def test_a_copy_of_builddir_is_where_the_chroot_would_be(place: Place) -> None:
    wants = replace(place.remote.build, copy_builddir_mib=1)
    script = place.cloud.scripts[0]
    tree = directory(b"BUILD", directory(b"tiny-1", file(b"COPYING", b"MIT")))
    script.results[BUILDDIR_ARCHIVE] = archive(tree)
    assert place.build(build=wants) == 0
    copied = place.path / "mock/small/root/builddir/build/BUILD/tiny-1/COPYING"
    assert copied.read_text() == "MIT" and BUILDDIR_ARCHIVE not in place.names()
    assert PACKAGE in place.names()

    assert place.build(build=replace(wants, copy_builddir_mib=0)) == 0
    assert not copied.exists()  # it would be older than the chroot
    assert place.build(build=wants) == 0
    assert copied.read_text() == "MIT"

    script.damaged = True
    with pytest.raises(ResultError):
        place.build(build=wants)
    assert not copied.exists()


def test_no_copy_of_builddir_is_made_unless_it_is_wanted(place: Place) -> None:
    place.cloud.scripts[0].results[BUILDDIR_ARCHIVE] = archive(file(b"x"))
    assert place.build() == 0
    assert not (place.path / "mock").exists() and BUILDDIR_ARCHIVE not in place.names()


@pytest.mark.parametrize("is_offline", [False, True])
def test_a_new_node_has_no_packages_for_offline_and_that_is_said(
    place: Place, is_offline: bool
) -> None:
    place.cloud.scripts[0].exit = 30
    words = ("--rebuild", *(["--offline"] if is_offline else []), str(place.srpm))
    assert place.build(*words) == 30
    said = place.screen.getvalue()
    assert ("run this once without --offline" in said) == is_offline
