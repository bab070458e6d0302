# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands that come one after the other in one chroot, and rely on one verdict: decision 0094."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mock_cloud.cloud.journal import Journal
from mock_cloud.cloud.lease import Lease
from tests.integration.conftest import Ended, MakeUser, User
from tests.integration.faults import node_facts
from tests.integration.real_mock import with_mock
from tests.lab.layout import Lab

pytestmark = pytest.mark.lab

MEASURED = "node trusted (tier 1)"
RELIED = "not measured again: the last command's verdict is"


def say_max_age(user: User, age: str) -> None:
    text = user.config.remote_file.read_text()
    user.config.remote_file.write_text(
        text.replace("[attest]", f'[attest]\nverdict_max_age = "{age}"')
    )


@pytest.fixture(scope="module", params=["chroot", "mock"])
def user(request: pytest.FixtureRequest, make_user: MakeUser) -> User:
    """Whose commands rely on a verdict for an hour, with a kept chroot."""
    user = make_user(f"series-{request.param}")
    if request.param == "mock":
        user = with_mock(user)
    say_max_age(user, "1h")
    assert MEASURED in user.mock("--init").expect().stderr
    return user


def relied(ended: Ended) -> bool:
    """Whether the command relied on a verdict; it says one thing or the other."""
    said = RELIED in ended.expect().stderr
    assert said != (MEASURED in ended.stderr), ended.stderr
    return said


def change_journal(user: User, change: Callable[[Lease], Lease]) -> None:
    with Journal(user.place / "state/mock-cloud").transaction() as books:
        (lease,) = books.leases()
        books.write(change(lease))


@pytest.mark.slow
def test_each_says_whose_verdict_it_is(user: User, tmp_path: Path) -> None:
    user.mock("--init").expect()
    (tmp_path / "one").write_text("x\n")
    results = tmp_path / "results"
    verdict = Journal(user.place / "state/mock-cloud").leases()[0].verdict.sha256
    assert relied(user.mock("--copyin", tmp_path / "one", "/var/tmp/"))
    assert relied(user.mock("--resultdir", results, "--chroot", "cat /var/tmp/one > /var/tmp/two"))
    assert verdict in (results / "remote_attestation.log").read_text()
    assert user.mock("-q", "--chroot", "cat /var/tmp/two").expect().stdout == "x\n"
    assert (
        relied(user.mock("--copyout", "/var/tmp/two", tmp_path / "out"))
        and (tmp_path / "out").read_text() == "x\n"
    )


def test_after_foreign_code_a_chroot_made_anew_is_measured_for(user: User) -> None:
    user.mock("--init").expect()
    assert relied(user.mock("--init")), "no foreign code ran since"
    assert relied(user.mock("--chroot", "true"))
    assert not relied(user.mock("--init"))
    assert relied(user.mock("--chroot", "true"))
    assert relied(user.mock("--clean"))
    assert not relied(user.mock("--no-clean", "--init")), "another chroot of the same name"


@pytest.mark.slow
def test_a_build_is_always_measured_for(user: User, plain_srpm: Path, tmp_path: Path) -> None:
    user.mock("--init").expect()
    for words in (("--no-clean",), ()):
        assert not relied(user.mock(*words, "--resultdir", tmp_path, plain_srpm))
    assert relied(user.mock("--no-clean", "--installdeps", plain_srpm))


@pytest.mark.slow
def test_another_chroot_is_measured_for_after_foreign_code(user: User) -> None:
    relied(user.mock("--chroot", "true"))
    other = replace(user, options=(*user.options, "--uniqueext", "other"))
    assert not relied(other.mock("--init"))
    assert relied(other.mock("--chroot", "true"))
    assert not relied(user.mock("--chroot", "true")), "it ran in the other one"
    other.mock("--clean").expect()


@pytest.mark.slow
def test_after_a_reboot_the_node_is_measured(user: User) -> None:
    relied(user.mock("--chroot", "true"))
    change_journal(
        user, lambda lease: replace(lease, verdict=replace(lease.verdict, boot_id="another"))
    )
    assert not relied(user.mock("--chroot", "true"))


@pytest.mark.slow
def test_with_other_keys_the_node_is_measured(lone_mock: User, lab: Lab) -> None:
    user = lone_mock
    say_max_age(user, "1h")
    text = user.config.remote_file.read_text()
    line = next(line for line in text.splitlines() if line.startswith("package_keys"))
    keys = user.place / "packages.asc"
    keys.write_bytes(Path(line.split('"')[1]).read_bytes())
    user.config.remote_file.write_text(text.replace(line, f'package_keys = ["{keys}"]'))
    user.mock("--init").expect()
    assert relied(user.mock("--chroot", "true"))
    keys.write_bytes(keys.read_bytes() + lab.foreign_key.read_bytes())
    assert not relied(user.mock("--chroot", "true"))


@pytest.mark.slow
def test_what_happens_in_between_is_found_at_the_next_measurement(lone_mock: User) -> None:
    """What relying on a verdict gives up, and that it does not last."""
    user = lone_mock
    say_max_age(user, "1h")
    user.mock("--init").expect()
    init = node_facts(user).init
    assert init is not None
    with Path(f"/proc/{init.pid}/root/usr/bin/ls").open("ab") as stream:
        stream.write(b"\0")
    assert relied(user.mock("--chroot", "true"))
    refused = user.cloud("attest", "local", "--configdir", user.config.path)
    assert refused.code == 77 and "/usr/bin/ls" in refused.stdout + refused.stderr


@pytest.mark.parametrize("second_look", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_local_node_is_measured_for_each_command(lone_mock: User, second_look: bool) -> None:
    user = lone_mock
    if second_look:
        say_max_age(user, "1h")
        text = user.config.remote_file.read_text()
        user.config.remote_file.write_text(
            text.replace("[attest]", '[attest]\nsecond_look = "always"')
        )
    user.mock("--init").expect()
    assert not relied(user.mock("--chroot", "true"))
    assert not relied(user.mock("--chroot", "true"))
