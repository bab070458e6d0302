# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds on lent machines: each in a network namespace with an address of its own.

`beta` has no name and no way to it but through `gate`, and its host key is vouched for by a CA.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mock_cloud.sshkeys import make_key_pair
from tests.integration.conftest import User, new_user
from tests.integration.faults import Command, check_failure, eventually
from tests.lab.layout import Lab, locked
from tests.lab.volunteers import Volunteer, Volunteers, build

pytestmark = pytest.mark.lab
W = "var/lib/mock-cloud"


@pytest.fixture(scope="module")
def volunteers(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Volunteers]:
    with locked(lab):
        build(lab)
    with Volunteers(lab, tmp_path_factory.mktemp("volunteers")) as made:
        with (made.gate.root / "etc/hosts").open("a") as hosts:
            hosts.write(f"{made.beta.machine.address} beta.internal\n")
        yield made


@pytest.fixture(scope="module")
def ssh_config(volunteers: Volunteers) -> Path:
    """What the user's OpenSSH knows: the gate, its key, and that beta is behind it."""
    gate, place = volunteers.gate, volunteers.place
    known = place / "known_hosts"
    known.write_text(f"{gate.machine.address} {gate.host_key}\n")
    config = place / "ssh_config"
    config.write_text(
        f"Host beta.internal\n ProxyJump gate\nHost gate\n HostName {gate.machine.address}\n"
        f" User root\n UserKnownHostsFile {known}\nHost *\n IdentitiesOnly yes\n"
        f" IdentityFile {volunteers.user_key}\n"
    )
    return config


MakeUser = Callable[[str], User]


@pytest.fixture
def make_lender(
    volunteers: Volunteers, ssh_config: Path, tmp_path: Path, cache: Path
) -> Iterator[MakeUser]:
    """Makes users of the two machines; each has a controller of its own."""
    users: list[User] = []

    def make(name: str) -> User:
        place = tmp_path / name
        config = volunteers.write_config(place / "etc")
        way = f'ssh_config = "{ssh_config}"'
        alpha = volunteers.alpha.table(more=way)
        ca = f'host_ca = "{volunteers.ca}"'
        beta = volunteers.beta.table(address="beta.internal", key=ca, more=way)
        volunteers.write_remote(config, "volunteers", alpha, beta)
        volunteers.write_remote(config, "alpha", alpha)
        volunteers.write_remote(config, "beta", beta)
        users.append(new_user(place, config, cache))
        return users[-1]

    yield make
    for user in users:
        user.release()
    assert left(volunteers.alpha) == left(volunteers.beta) == []


def left(one: Volunteer) -> list[str]:
    """What is ours on a machine: files, and processes of the toolkit's."""
    place = one.root / W
    files = sorted(path.name for path in place.iterdir()) if place.is_dir() else []
    space = Path(f"/proc/{one.machine.init_pid}/ns/pid").readlink()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            exe = (entry / "exe").readlink()
            if (entry / "ns/pid").readlink() == space and exe.is_relative_to(f"/{W}"):
                files.append(f"process {exe}")
    return files


def test_another_host_key_gets_nothing(
    make_lender: MakeUser, volunteers: Volunteers, plain_srpm: Path, tmp_path: Path
) -> None:
    user = make_lender("one")
    wrong = f'host_key = "{make_key_pair().public}"'
    volunteers.write_remote(user.config, "wrong", volunteers.alpha.table(key=wrong))
    ended = user.mock("--remote", "wrong", "--resultdir", tmp_path / "results", plain_srpm)
    check_failure(ended, 77, "expected host key", hint="Nothing was sent")
    assert left(volunteers.alpha) == [] and user.nodes() == []


def test_another_ca_gets_nothing(make_lender: MakeUser, volunteers: Volunteers) -> None:
    user = make_lender("one")
    path = user.config.path / "remotes.d/beta.toml"
    path.write_text(path.read_text().replace(str(volunteers.ca), str(make_key_pair().public)))
    ended = user.cloud("attest", "beta", "--configdir", user.config.path)
    check_failure(ended, 77, "not by the CA")
    assert left(volunteers.beta) == []


@pytest.mark.fault(16)
def test_a_jump_host_that_is_down_is_named(
    make_lender: MakeUser, volunteers: Volunteers, ssh_config: Path
) -> None:
    user = make_lender("one")
    down = user.place / "ssh_config"
    down.write_text(ssh_config.read_text().replace(" User root", " User root\n Port 1"))
    path = user.config.path / "remotes.d/beta.toml"
    path.write_text(path.read_text().replace(str(ssh_config), str(down)))
    ended = user.cloud("attest", "beta", "--configdir", user.config.path)
    check_failure(ended, 75, "beta", "jump host gate: ssh: connect to host", "Connection refused")
    checked = user.cloud("doctor", "beta", "--configdir", user.config.path)
    assert "jump host gate" in checked.stdout + checked.stderr


@pytest.mark.slow
def test_a_machine_that_nobody_described_is_described_and_built_on(
    make_lender: MakeUser, volunteers: Volunteers, lab: Lab, plain_srpm: Path, tmp_path: Path
) -> None:
    user, alpha = make_lender("one"), volunteers.alpha
    signed = user.place / "own.manifest"
    volunteers.write_remote(
        user.config, "fresh", alpha.table(more=f'identity = "{volunteers.user_key}"')
    )
    remote = user.config.path / "remotes.d/fresh.toml"
    manifest = f'manifest = "{alpha.manifest}"\n'
    remote.write_text(remote.read_text().replace(manifest, ""))
    make = ("known-good", "make", "--remote", "fresh", "--configdir", user.config.path,
            "--sign-key", lab.keys / "manifest", "--output", signed)  # fmt: skip
    check_failure(user.cloud(*make), 77, "covered by no package", hint="--accept-unverified-base")
    report = signed.with_name("own.manifest.report").read_text()
    assert "file: /usr/sbin/init: f 0755 0:0" in report
    assert "file: /etc/ssh/ssh_host_ed25519_key: f 0600 0:0" in report
    assert "kernel: tainted: " in report and "package: bash-" in report
    assert not signed.exists() and left(alpha) == []
    made = user.cloud(*make, "--accept-unverified-base").expect()
    assert "\nINFO: 0 of them are new" in made.stderr
    table, line = made.stdout.splitlines()
    remote.write_text(remote.read_text().replace(f"{table}\n", f"{table}\n{line}\n"))
    user = replace(user, options=(*user.options, "--remote", "fresh"))
    built = user.mock("--resultdir", tmp_path / "results", plain_srpm).expect()
    assert "lent by the owner of alpha" in built.stderr
    assert list((tmp_path / "results").glob("toy-plain-*.rpm"))
    init = alpha.root / "usr/sbin/init"
    before = init.read_bytes()
    init.write_bytes(before.replace(b"-D -e", b"-D -4"))
    try:
        refused = user.mock("--init").expect(77)
    finally:
        init.write_bytes(before)
    assert "file.digest: /usr/sbin/init" in refused.stderr


@contextlib.contextmanager
def running(one: Volunteer, path: str) -> Iterator[None]:
    """A process of the machine's whose executable is called so; it only sleeps."""
    place = one.root / path.lstrip("/")
    shutil.copy(one.root / "usr/bin/sleep", place)
    names = [f"--{name}" for name in ("mount", "uts", "ipc", "net", "pid")]
    argv = ["nsenter", f"--target={one.machine.init_pid}", *names, path, "3600"]
    with subprocess.Popen(argv, start_new_session=True, env={"PATH": "/usr/bin"}) as child:
        try:
            yield
        finally:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            # What nsenter had forked is ours then: a zombie keeps the machine's namespace.
            with contextlib.suppress(ChildProcessError):
                while True:
                    os.waitpid(-child.pid, 0)
            place.unlink()


@pytest.mark.slow
def test_an_agent_for_remote_control_runs_where_the_remote_allows_it(
    make_lender: MakeUser, volunteers: Volunteers, lab: Lab, plain_srpm: Path, tmp_path: Path
) -> None:
    """Its manifest has it, since it came with the machine; who builds decides all the same."""
    user, alpha = make_lender("one"), volunteers.alpha
    signed = user.place / "own.manifest"
    table = alpha.table(more=f'identity = "{volunteers.user_key}"')
    volunteers.write_remote(user.config, "fresh", table)
    remote = user.config.path / "remotes.d/fresh.toml"
    remote.write_text(remote.read_text().replace(f'manifest = "{alpha.manifest}"\n', ""))
    place = ("--configdir", user.config.path)
    make = ("known-good", "make", "--remote", "fresh", *place, "--sign-key",
            lab.keys / "manifest", "--output", signed, "--accept-unverified-base")  # fmt: skip
    plain = remote.read_text()
    allowed = '[attest]\nallow_agents = ["qemu-guest-agent"]\n'
    with running(alpha, "/usr/bin/qemu-ga"):
        assert "policy.agent: pid" in user.cloud(*make).expect(77).stderr
        remote.write_text(plain.replace("[attest]\n", allowed))
        user.cloud(*make).expect()
        text = plain.replace("[attest]\n", f'[attest]\nmanifest = "{signed}"\n')
        remote.write_text(text)
        refused = user.cloud("attest", "fresh", *place).expect(77)
        assert "policy.agent: pid" in refused.stdout, refused
        assert refused.stdout.count("refused: ") == 1
        remote.write_text(text.replace("[attest]\n", allowed))
        trusted = user.cloud("attest", "fresh", *place).expect()
        unproven = "that whoever runs the node's host does nothing by qemu-guest-agent"
        assert f"not proven: {unproven}" in trusted.stdout
        user = replace(user, options=(*user.options, "--remote", "fresh"))
        user.mock("--resultdir", tmp_path / "r", plain_srpm).expect()
        assert unproven in user.cloud("verify", tmp_path / "r").expect().stdout
        user.release()
    with running(alpha, "/usr/bin/backupd"):
        hidden = user.cloud("attest", "fresh", *place).expect(77)
    assert "file.unknown: /usr/bin/backupd" in hidden.stdout
    assert "process.unknown: pid" in hidden.stdout and "policy.agent" not in hidden.stdout


def test_two_builds_take_two_machines_and_a_third_waits(
    make_lender: MakeUser, volunteers: Volunteers, plain_srpm: Path, tmp_path: Path
) -> None:
    user = make_lender("one")
    user = replace(user, options=(*user.options, "--remote", "volunteers"))
    one, two = tmp_path / "results-1", tmp_path / "results-2"
    with (
        Command(user, "--uniqueext", "1", "--resultdir", one, plain_srpm) as first,
        Command(user, "--uniqueext", "2", "--resultdir", two, plain_srpm) as second,
    ):
        for run in (first, second):
            run.wait_for("node trusted")
        assert left(volunteers.alpha) and left(volunteers.beta)
        with Command(user, "--uniqueext", "3", "--clean") as third:
            third.wait_for("waiting for a node")
            assert first.ended(120).code == 0, first.text
            assert second.ended(120).code == 0, second.text
            assert third.ended().code == 0, third.text
    used = {row["address"] for row in user.nodes()}
    assert used == {f"root@{volunteers.alpha.machine.address}:22", "root@beta.internal:22"}
    said = first.text + second.text
    for name in ("alpha", "beta"):
        assert f"({name}, lent by the owner of {name})" in said
    for results in (one, two):
        assert list(results.glob("toy-plain-*.x86_64.rpm")) or list(results.glob("toy-plain-*.rpm"))


@pytest.mark.slow
def test_a_user_does_not_wait_until_machines_are_wiped(
    make_lender: MakeUser, volunteers: Volunteers
) -> None:
    user = make_lender("one")
    for name in ("alpha", "beta"):
        user.mock("--remote", name, "--init").expect()
    assert left(volunteers.alpha) and left(volunteers.beta)
    ended = user.cloud("release", "--all", "--no-wait", "--configdir", user.config.path).expect()
    assert ended.stderr.count("is being ended in the background") == 2
    eventually(lambda: user.nodes() == [])
    assert left(volunteers.alpha) == left(volunteers.beta) == []


@pytest.mark.slow
def test_a_killed_controller_and_one_that_waits_for_it(
    make_lender: MakeUser, volunteers: Volunteers
) -> None:
    """The claim outlives kill -9; others respect it; the owner's next command ends it."""
    mine, other = (
        replace(user, options=(*user.options, "--remote", "alpha"))
        for user in (make_lender("one"), make_lender("two"))
    )
    with Command(mine, "--init") as first:
        first.wait_for("node trusted")
        first.send(signal.SIGKILL)
        first.child.wait()
    assert "claim" in left(volunteers.alpha)
    again = mine.cloud("attest", "alpha", "--configdir", mine.config.path).expect()
    assert "new node" in again.stderr
    with Command(other, "--clean") as waiting:
        waiting.wait_for("waiting for a node")
        waiting.wait_for("alpha is used by")
        mine.release()
        assert waiting.ended().code == 0, waiting.text
    # The other's machine is warm now: a sweep of mine is not for it.
    mine.cloud("reap", "alpha", "--configdir", mine.config.path).expect()
    assert "claim" in left(volunteers.alpha)
    assert [row["state"] for row in other.nodes()] == ["ready"]
