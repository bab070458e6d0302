# SPDX-License-Identifier: GPL-2.0-or-later
"""Nodes that die, freeze, lie or are wanted by two: 75 or 77, one line, and nothing left."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mock_cloud.cloud.journal import Journal
from tests.integration.conftest import User
from tests.integration.faults import (
    Command,
    Earlier,
    check_failure,
    check_gone,
    find_process,
    node_facts,
    scratch,
    write_remote,
)
from tests.integration.real_mock import with_mock
from tests.lab import srpm
from tests.lab.srpm import Recipe
from tests.lab.sshd import Sshd

pytestmark = pytest.mark.lab
LabSrpm = Callable[[Recipe], Path]


@pytest.fixture
def earlier(tmp_path: Path) -> Iterator[Earlier]:
    results = Earlier(tmp_path / "results")
    yield results
    results.check()


@pytest.fixture(scope="session")
def short_srpm(lab_srpm: Callable[[Recipe], Path]) -> Path:
    """%build takes five seconds."""
    return lab_srpm(srpm.sleeping(5))


def node_init(user: User) -> int:
    init = node_facts(user).init
    assert init is not None
    return init.pid


VICTIMS: dict[str, tuple[Callable[[User], int], str]] = {
    "its first process": (node_init, "the connection is lost"),
    "its supervisor": (lambda user: node_facts(user).supervisor.pid, "the connection is lost"),
    "the job's first process": (
        lambda user: find_process(user, "main.py launch", parent=node_init(user)),
        "the job vanished",
    ),
}


@pytest.mark.parametrize(
    "victim",
    [
        "its first process",
        pytest.param("its supervisor", marks=pytest.mark.slow),
        "the job's first process",
    ],
)
@pytest.mark.fault(29)
def test_killed_at_work(
    lone_mock: User, plain_srpm: Path, earlier: Earlier, tmp_path: Path, victim: str
) -> None:
    find, says = VICTIMS[victim]
    with (
        scratch(tmp_path / "tmp") as tmp,
        Command(lone_mock, "--resultdir", earlier.path, plain_srpm, tmp=tmp) as run,
    ):
        run.wait_for("Start: installing minimal buildroot")
        pid = find(lone_mock)
        results = Path(f"/proc/{node_init(lone_mock)}/root/var/lib/mock-cloud/jobs").glob(
            "*/results"
        )
        (next(results) / "toy-plain-1-1.lab1.noarch.rpm").write_bytes(b"half of a pack")
        os.kill(pid, signal.SIGKILL)
        check_failure(run.ended(), 75, says, "root@127.")
    check_gone(lone_mock)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("victim", "number", "says"),
    [
        ("main.py serve", signal.SIGKILL, "the agent ended with"),
        ("root@notty", signal.SIGKILL, "is lost"),
        ("root@notty", signal.SIGSTOP, "sent nothing for 2 s"),
    ],
)
def test_what_serves_us_is_lost(
    lone_mock: User, short_srpm: Path, tmp_path: Path, victim: str, number: int, says: str
) -> None:
    """The job is none of it: the node is reached again."""
    write_remote(lone_mock, "local", build__silence_timeout='"2s"')
    with Command(lone_mock, "--resultdir", tmp_path / "results", short_srpm) as run:
        run.wait_for("Start: rpmbuild")
        os.kill(find_process(lone_mock, victim), number)
        ended = run.ended().expect()
    assert says in ended.stderr and "reached again after" in ended.stderr
    assert len(list((tmp_path / "results").glob("*.rpm"))) == 2


def make_warm(user: User) -> Path:
    """Have a node that was attested and on which nothing was built; its root."""
    user.cloud("attest", "local", "--configdir", user.config.path).expect()
    return Path(f"/proc/{node_init(user)}/root")


# Nodes that are not what they should be


@pytest.mark.fault(12)
def test_another_host_key(
    lone_mock: User, plain_srpm: Path, earlier: Earlier, tmp_path: Path
) -> None:
    """Somebody else's sshd answers where the node was."""
    make_warm(lone_mock)
    journal = Journal(lone_mock.place / "state/mock-cloud")
    with Sshd(tmp_path / "sshd") as impostor:
        with journal.transaction() as books:
            (lease,) = books.leases()
            assert lease.address is not None
            there = impostor.address_with(lease.address.host_key)
            books.write(replace(lease, address=there))
        ended = lone_mock.mock("--resultdir", earlier.path, plain_srpm)
        assert "Accepted" not in impostor.log
    check_failure(ended, 77, "expected host key", hint="Nothing was sent")
    check_gone(lone_mock)
    earlier.check_untouched()


@pytest.mark.slow
def test_an_agent_that_talks_rubbish(lone_mock: User, plain_srpm: Path, earlier: Earlier) -> None:
    """The toolkit's python on the node was replaced by something that prints."""
    root = make_warm(lone_mock)
    (python,) = root.glob("var/lib/mock-cloud/toolkit/*/agent/main.py")
    python.write_text("import os\nos.write(1, b'hello, have a nice day\\n' * 100)\n")
    ended = lone_mock.mock("--resultdir", earlier.path, plain_srpm)
    check_failure(ended, 75, "root@127.", "not an agent's answer")
    assert "nice day" not in ended.stdout
    check_gone(lone_mock)
    earlier.check_untouched()


def test_tampered_while_it_built(lone_mock: User, short_srpm: Path, earlier: Earlier) -> None:
    """The build succeeds, the second look fails: its packages are withheld."""
    text = lone_mock.config.remote_file.read_text()
    lone_mock.config.remote_file.write_text(
        text.replace("[attest]", '[attest]\nsecond_look = "always"')
    )
    with Command(lone_mock, "--resultdir", earlier.path, short_srpm) as run:
        run.wait_for("Start: rpmbuild")
        root = Path(f"/proc/{node_init(lone_mock)}/root")
        with (root / "usr/bin/rpmbuild").open("ab") as stream:
            stream.write(b"\0")
        ended = run.ended()
    assert ended.code == 77, ended.stderr
    assert "Finish: rpmbuild" in ended.stderr
    assert "/usr/bin/rpmbuild" in ended.stderr and "file.digest" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "/usr/bin/rpmbuild" in earlier.log("remote_attestation.log")
    check_gone(lone_mock)


# What lives on a node


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["chroot", "mock"])
def test_a_chroot_is_not_used_up_and_not_silently_made_anew(
    lone_mock: User, tmp_path: Path, engine: str
) -> None:
    """A script's commands in one chroot: a count ends none of them, and a lost one is said."""
    if engine == "mock":
        lone_mock = with_mock(lone_mock)
    (tmp_path / "file").write_text("precious\n")
    file = lone_mock.config.remote_file
    file.write_text(file.read_text().replace("max_builds = 10000", "max_builds = 2"))
    lone_mock.mock("--init").expect()
    lone_mock.mock("--copyin", tmp_path / "file", "/tmp/file").expect()
    for _ in range(3):
        looked = lone_mock.mock("-q", "--chroot", "cat /tmp/file").expect()
        assert looked.stdout == "precious\n"
    (node,) = lone_mock.nodes()
    os.kill(node_facts(lone_mock).supervisor.pid, signal.SIGKILL)
    for _ in range(2):
        ended = lone_mock.mock("--chroot", "cat /tmp/file")
        check_failure(ended, 75, "is gone: its node ended at", hint="--init")
    assert lone_mock.nodes() == []
    lone_mock.mock("--clean").expect()
    lone_mock.mock("-q", "--chroot", "test ! -e /tmp/file").expect()
    (other,) = lone_mock.nodes()
    assert other["lease"] != node["lease"] and other["chroots"] == [lone_mock.config.chroot()]


@pytest.mark.slow
def test_a_build_that_is_longer_than_a_nodes_life(lone_mock: User, lab_srpm: LabSrpm) -> None:
    """Another node would live no longer: it is not tried."""
    file = lone_mock.config.remote_file
    text = file.read_text().replace("retries = 0", "retries = 1")
    file.write_text(text.replace("[lease]", '[lease]\nmax_ttl = "60s"\nidle_ttl = "1s"'))
    ended = lone_mock.mock(lab_srpm(srpm.sleeping(150)))
    check_failure(ended, 75, "reached the end of its life", hint="max_ttl")
    assert "another one is tried" not in ended.stderr
    check_gone(lone_mock)


# Two at once


@pytest.mark.slow
@pytest.mark.fault(24)
def test_two_in_one_chroot(
    mock: User, short_srpm: Path, plain_srpm: Path, earlier: Earlier, tmp_path: Path
) -> None:
    with Command(mock, "--resultdir", tmp_path / "first", short_srpm) as first:
        first.wait_for("Start: rpmbuild")
        ended = mock.mock("--resultdir", earlier.path, plain_srpm)
        assert first.ended().code == 0
    check_failure(ended, 60, "lab-1", "in use", f"process {first.child.pid}", hint="--uniqueext")
    earlier.check_untouched()


@pytest.mark.slow
def test_the_only_node_is_waited_for(
    mock: User, short_srpm: Path, tmp_path: Path, only_one: User
) -> None:
    """Another chroot, a remote with one node: the second command says for whom it waits."""
    (before,) = mock.nodes()
    with Command(mock, "--resultdir", tmp_path / "first", short_srpm) as first:
        first.wait_for("Start: rpmbuild")
        with Command(only_one, "--uniqueext", "two", "--clean") as second:
            second.wait_for("waiting for a node")
            second.wait_for(f"process {first.child.pid}")
            assert first.ended().code == 0
            assert second.ended().code == 0
    (after,) = mock.nodes()
    assert after["lease"] == before["lease"]


@pytest.fixture
def only_one(mock: User, tmp_path: Path) -> User:
    """The same user with a configuration whose remote has one node at most."""
    etc = tmp_path / "etc"
    shutil.copytree(mock.config.path, etc)
    remote = etc / "remotes.d/local.toml"
    remote.write_text(remote.read_text().replace("[lease]", "[lease]\nmax_nodes = 1"))
    options = tuple(str(etc) if word == str(mock.config.path) else word for word in mock.options)
    return replace(mock, config=replace(mock.config, path=etc), options=options)


@pytest.mark.slow
def test_two_chroots_are_on_two_nodes(lone_mock: User) -> None:
    with (
        Command(lone_mock, "--init") as first,
        Command(lone_mock, "--uniqueext", "two", "--init") as second,
    ):
        assert first.ended().code == 0, first.text
        assert second.ended().code == 0, second.text
    rows = lone_mock.nodes()
    assert {len(row["chroots"]) for row in rows} == {1} and len(rows) == 2
