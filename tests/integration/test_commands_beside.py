# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands beside each other in one chroot, on both engines, as users have them."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.component.cloud_nodes import eventually
from tests.component.engine_node import make_source
from tests.integration.conftest import MakeUser, User
from tests.integration.real_mock import with_mock

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module", params=["chroot", "mock"])
def make(request: pytest.FixtureRequest, make_user: MakeUser) -> MakeUser:
    """Makes users of each engine, with a kept chroot."""

    def made(name: str) -> User:
        user = make_user(f"{name}-{request.param}")
        if request.param == "mock":
            user = with_mock(user)
        user.mock("--init").expect()
        return user

    return made


@pytest.fixture(scope="module")
def user(make: MakeUser) -> User:
    return make("beside")


@contextmanager
def shell(user: User, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A shell in the chroot that ends with its input; by then it must have ended well."""
    child = begin_shell(user, *words)
    yield child
    end_shell(child)


def begin_shell(user: User, *words: str) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    child = user.start(
        "-q", *words, "--shell", "echo begun; cat", stdin=pipe, stdout=pipe, stderr=pipe
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"begun\n", child.communicate()
    return child


def end_shell(child: subprocess.Popen[bytes], code: int = 0) -> None:
    _, said = child.communicate(timeout=900)
    assert child.returncode == code, said.decode()


def node(user: User) -> dict[str, object]:
    (listed,) = user.nodes()
    return listed


def test_a_file_is_copied_in_beside_a_shell(user: User, tmp_path: Path) -> None:
    """What tests/cases has as 08: mock prints the same."""
    (tmp_path / "one").write_text("x\n")
    before = node(user)["lease"]
    with shell(user):
        copied = user.mock("-q", "--copyin", tmp_path / "one", "/var/tmp/").expect()
        assert (copied.stdout, copied.stderr) == ("", "")
        seen = user.mock("-q", "--chroot", "ls /var/tmp").expect()
        assert (seen.stdout, seen.stderr) == ("one\n", "")
        result = tmp_path / "result"
        said = user.mock("--resultdir", result, "--chroot", "true").expect()
        assert "not measured again: beside job" in said.stderr
        assert "under its verdict, sha256" in (result / "remote_attestation.log").read_text()
    assert user.mock("-q", "--chroot", "cat /var/tmp/one").expect().stdout == "x\n"
    assert (node(user)["lease"], node(user)["state"]) == (before, "ready")


def test_what_empties_the_chroot_ends_with_60(user: User, tmp_path: Path) -> None:
    with shell(user):
        for words in (("--clean",), ("--scrub=chroot",), ("--init",)):
            assert "in use by lease" in user.mock(*words).expect(60).stderr
    user.mock("--chroot", "true").expect()


@pytest.mark.slow
def test_the_shell_that_came_first_may_end_first(user: User) -> None:
    first = begin_shell(user)
    second = begin_shell(user)
    end_shell(first)
    assert node(user)["state"] == "busy"
    assert user.mock("-q", "--chroot", "echo third").expect().stdout == "third\n"
    end_shell(second)
    eventually(lambda: node(user)["state"] == "ready")
    user.mock("--chroot", "true").expect()


@pytest.mark.slow
@pytest.mark.parametrize("which", ["first", "second"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_is_stopped_takes_no_other_along(
    user: User, which: str, number: signal.Signals
) -> None:
    first = begin_shell(user)
    second = begin_shell(user)
    gone, stays = (first, second) if which == "first" else (second, first)
    gone.send_signal(number)
    gone.communicate(timeout=900)
    assert gone.returncode == (7 if number == signal.SIGINT else 128 + number)
    assert user.mock("-q", "--chroot", "echo beside").expect().stdout == "beside\n"
    end_shell(stays)
    user.mock("--chroot", "true").expect()
    assert node(user)["state"] == "ready"


def test_a_second_command_that_is_killed_leaves_nothing(user: User) -> None:
    lease = node(user)["lease"]
    with shell(user):
        second = begin_shell(user)
        os.kill(second.pid, signal.SIGKILL)
        second.communicate()
    user.mock("--chroot", "true").expect()  # a verdict: no process of it runs
    assert (node(user)["lease"], node(user)["state"]) == (lease, "ready")


@pytest.mark.slow
def test_a_first_command_that_is_killed_leaves_the_second_at_work(make: MakeUser) -> None:
    """Its node is not used again, as ever when a command is killed."""
    user = make("killed")
    lease = node(user)["lease"]
    first = begin_shell(user)
    with shell(user):
        os.kill(first.pid, signal.SIGKILL)
        first.communicate()
        user.mock("--chroot", "true").expect(60)
    assert node(user)["state"] == "abandoned"
    user.mock("--init").expect()
    assert node(user)["lease"] != lease
    user.release()


@pytest.mark.slow
def test_a_build_without_cleaning_goes_on_beside_a_shell(user: User, tmp_path: Path) -> None:
    srpm = make_source(tmp_path, "beside")
    with shell(user):
        built = user.mock("--no-clean", "--no-cleanup-after", "--resultdir", tmp_path, srpm)
        built.expect()
    assert (tmp_path / "beside-1.0-1.lab1.noarch.rpm").is_file()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_nobody_else_can_join(user: User) -> None:
    """Whoever joins must read the journal and the lease's key, which are this user's alone."""
    with shell(user):
        state = user.place / "state/mock-cloud"
        for path in (state / "leases.sqlite", *(state / "keys").iterdir()):
            looked = subprocess.run(["cat", path], user=65534, group=65534, check=False)
            assert looked.returncode != 0
