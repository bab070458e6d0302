# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines that can only call out: lent through a relay, which sees and can do nothing."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from mock_cloud.process import run
from mock_cloud.sshkeys import make_key_pair
from tests.integration.conftest import Ended, User
from tests.integration.faults import Command, check_failure, wait_in
from tests.integration.real_mock import with_mock
from tests.lab import srpm
from tests.lab.behind_nat import between, hide, in_network_of, send
from tests.lab.layout import Lab, locked
from tests.lab.srpm import Recipe
from tests.lab.units import KeptUnit
from tests.lab.volunteers import Volunteer, Volunteers, build
from tests.waiting import wait_for

pytestmark = [pytest.mark.lab, pytest.mark.slow]

UNIT = "etc/systemd/system/mock-cloud-lend-relay.service"
KEY = "etc/mock-cloud/relay-key"
AT = 4000  # of the relay's loopback: where it puts itself between


@dataclass(frozen=True)
class Lent:
    """A machine behind NAT, what was printed as it was lent, and its port at the relay."""

    machine: Volunteer
    for_relay: str
    table: str
    listen: int
    unit: KeptUnit


class Nat:
    """Alpha and beta can only call out; the gate is the relay. `lend` is each owner's command."""

    def __init__(self, volunteers: Volunteers, place: Path) -> None:
        self.volunteers, self.place, self.relay = volunteers, place, volunteers.gate
        self.borrower = place / "borrower"
        pair = make_key_pair()
        self.borrower.touch(0o600)
        self.borrower.write_bytes(pair.private.reveal())
        self.borrower.with_suffix(".pub").write_text(f"{pair.public}\n")
        self.relay_key = place / "relay.pub"
        self.relay_key.write_text(f"{self.relay.host_key}\n")
        known = place / "known_hosts"
        known.write_text(f"{self.relay.machine.address} {self.relay.host_key}\n")
        self.ssh_config = place / "ssh_config"
        self.ssh_config.write_text(
            f"UserKnownHostsFile {known}\nIdentityFile {self.borrower}\nIdentitiesOnly yes\n"
        )
        self.name = f"relay@{self.relay.machine.address}"
        self.lines: list[str] = []
        config = self.relay.root / "etc/ssh/sshd_config"
        text = config.read_text().replace(" /root/.ssh/authorized_keys", " .ssh/authorized_keys")
        config.write_text(text)
        home = self.relay.root / "home/relay/.ssh"
        home.mkdir(parents=True)
        self.keys = home / "authorized_keys"
        self.keys.touch()
        for name, line in (
            ("passwd", "relay:x:4000:65534::/home/relay:/bin/sh"), ("shadow", "relay:*:19000::::::")
        ):  # fmt: skip
            with (self.relay.root / "etc" / name).open("a") as stream:
                stream.write(f"{line}\n")

    def lend(self, owner: User, one: Volunteer, *words: str | Path) -> Ended:
        """The owner's command, in the network of the owner's machine."""
        argv = [*in_network_of(one.machine), str(Path(sys.executable).parent / "mock-cloud")]
        ended = owner.run([*argv, "lend", "--root", str(one.root), *map(str, words)])
        os.kill(one.machine.init_pid, signal.SIGHUP)
        return ended

    def allow(self) -> None:
        """The relay's administrator does what was asked for, once."""
        config = self.relay.root / "etc/ssh/sshd_config"
        block = "".join(re.findall(r"^Match .*?^Match all\n", self.lines[0], re.DOTALL | re.M))
        if block not in config.read_text():
            config.write_text(f"{config.read_text()}\n{block}")
            os.kill(self.relay.machine.init_pid, signal.SIGHUP)
        found = [one for text in self.lines for one in text.splitlines() if "restrict," in one]
        # sshd goes by a key's first line, so a key has one.
        machines = [one for one in found if 'permitopen="none' in one]
        ports = ",".join(re.findall(r'permitopen="127[^"]*"', "".join(found)))
        borrower = next(one for one in found if one not in machines)
        several = re.sub(r'permitopen="[^"]*"', ports, borrower)
        self.keys.write_text("".join(f"{one}\n" for one in (*machines, several)))
        self.keys.chmod(0o644)


@pytest.fixture(scope="module")
def volunteers(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Volunteers]:
    with locked(lab):
        build(lab)
    include = "Include /etc/ssh/sshd_config.d/*.conf"
    with Volunteers(
        lab, tmp_path_factory.mktemp("nat"), {"alpha": include, "beta": include}
    ) as made:
        for one in (made.alpha, made.beta):
            hide(made.site.network, one.machine)
        yield made


@pytest.fixture(scope="module")
def owner(volunteers: Volunteers, cache: Path) -> User:
    place = volunteers.place / "owner"
    (place / "home").mkdir(parents=True)
    return User(place, volunteers.write_config(place / "etc"), cache, ())


@pytest.fixture(scope="module")
def nat(volunteers: Volunteers, owner: User) -> Nat:
    return Nat(volunteers, volunteers.place)


@contextmanager
def lent(nat: Nat, owner: User, one: Volunteer) -> Iterator[Lent]:
    ended = nat.lend(
        owner, one, "--borrower", nat.borrower.with_suffix(".pub"), "--owner", f"{one.name}'s",
        "--name", one.name, "--relay", nat.name, "--relay-host-key", nat.relay_key,
    ).expect()  # fmt: skip
    for_relay, mark, table = ended.stdout.partition("# A lent machine")
    nat.lines.append(for_relay)
    nat.allow()
    found = re.search(r"^port = (\d+)$", table, re.MULTILINE)
    assert found is not None
    with KeptUnit(one.root / UNIT, one.machine.init_pid) as unit:
        probe = [*in_network_of(nat.relay.machine), "bash", "-c", f"</dev/tcp/127.0.0.1/{found[1]}"]
        wait_for(
            lambda: not subprocess.run(probe, stderr=subprocess.DEVNULL, check=False).returncode
        )
        yield Lent(one, for_relay, mark + table, int(found[1]), unit)


@pytest.fixture(scope="module")
def alpha(nat: Nat, owner: User) -> Iterator[Lent]:
    with lent(nat, owner, nat.volunteers.alpha) as made:
        yield made


@pytest.fixture(scope="module")
def beta(nat: Nat, owner: User) -> Iterator[Lent]:
    with lent(nat, owner, nat.volunteers.beta) as made:
        yield made


@pytest.fixture(autouse=True)
def kept(alpha: Lent, beta: Lent) -> Iterator[None]:
    """The units rest between tests: the guard against leaks would not know one that came again."""
    for one in (alpha, beta):
        one.unit.resume()
    yield
    for one in (alpha, beta):
        one.unit.pause()


@pytest.fixture
def user(nat: Nat, volunteers: Volunteers, tmp_path: Path, cache: Path) -> Iterator[User]:
    """Who borrows; remotes alpha and beta are of what was printed, and of nothing else."""
    place = tmp_path / "user"
    (place / "home").mkdir(parents=True)
    config = volunteers.write_config(place / "etc")
    with (config.path / "site-defaults.cfg").open("a") as stream:
        stream.write(f"config_opts['basedir'] = {str(place / 'var/lib/mock')!r}\n")
    options = ("--configdir", str(config.path), "-r", config.chroot())
    made = User(place, config, cache, options)
    yield made
    made.release()


def write_remote(user: User, nat: Nat, one: Lent, **changes: object) -> Path:
    """A remote of the table that lend printed; the path of its file."""
    table = one.table
    for key, value in changes.items():
        table = re.sub(rf"^{key} = .*$", f"{key} = {value}", table, flags=re.MULTILINE)
    way = f'ssh_config = "{nat.ssh_config}"\nidentity = "{nat.borrower}"\n'
    nat.volunteers.write_remote(user.config, one.machine.name, f"{table}{way}")
    return user.config.path / f"remotes.d/{one.machine.name}.toml"


def attest(user: User, name: str) -> Ended:
    return user.cloud("attest", name, "--configdir", user.config.path)


def doctor(user: User, name: str) -> Ended:
    return user.cloud("doctor", name, "--configdir", user.config.path)


def reached(user: User, name: str) -> None:
    wait_for(lambda: f"lent by {name}'s" in doctor(user, name).stdout, 150)


def vouch(user: User, nat: Nat, one: Lent, lab: Lab) -> None:
    """The borrower makes the machine's manifest, by the same way as builds go."""
    remote, signed = write_remote(user, nat, one), user.place / f"{one.machine.name}.manifest"
    line = f'manifest = "{nat.volunteers.alpha.manifest}"\n'
    remote.write_text(remote.read_text().replace(line, ""))
    user.cloud("known-good", "make", "--remote", one.machine.name, "--configdir",
               user.config.path, "--sign-key", lab.keys / "manifest", "--output", signed,
               "--accept-unverified-base").expect()  # fmt: skip
    text = remote.read_text().replace("[attest]\n", f'[attest]\nmanifest = "{signed}"\n')
    remote.write_text(text)


# Built on, through the relay


@pytest.mark.parametrize("engine", ["chroot", "mock"])
def test_a_machine_behind_nat_is_built_on(
    user: User, nat: Nat, owner: User, alpha: Lent, lab: Lab, plain_srpm: Path, tmp_path: Path,
    engine: str,
) -> None:  # fmt: skip
    for caller in ([], in_network_of(nat.relay.machine)):
        probe = ["timeout", "2", "bash", "-c", f"</dev/tcp/{alpha.machine.machine.address}/22"]
        assert subprocess.run([*caller, *probe], check=False).returncode == 124
    if engine == "mock":
        user = with_mock(user)
    write_remote(user, nat, alpha)
    reached(user, "alpha")
    checked = nat.lend(owner, alpha.machine, "--check").expect().stdout
    assert f"ok       relay: {nat.relay.machine.address} takes the key" in checked
    assert "ok       forward: it is kept" in checked
    vouch(user, nat, alpha, lab)
    results = tmp_path / "r"
    built = user.mock("--remote", "alpha", "--resultdir", results, plain_srpm).expect()
    assert "lent by alpha's" in built.stderr and list(results.glob("toy-plain-*.rpm"))
    assert ("Signal handler active" in built.stderr) == (engine == "mock")
    policy = tmp_path / "policy.toml"
    policy.write_text('owner_signed = true\nowners = ["alpha\'s"]\n')
    user.cloud("verify", results, "--policy", policy).expect()


# A relay that is hostile


@pytest.fixture
def led_astray(user: User, nat: Nat, alpha: Lent, beta: Lent) -> Iterator[User]:
    """A borrower whom the relay leads to AT in place of alpha's port."""
    write_remote(user, nat, beta)
    reached(user, "beta")
    write_remote(user, nat, alpha)
    reached(user, "alpha")
    whole = nat.keys.read_text()
    nat.keys.write_text(
        whole.replace('permitopen="127', f'permitopen="127.0.0.1:{AT}",permitopen="127')
    )
    write_remote(user, nat, alpha, port=AT)
    yield user
    nat.keys.write_text(whole)


def is_untouched(one: Lent) -> bool:
    place = one.machine.root / "var/lib/mock-cloud"
    return not place.is_dir() or not list(place.iterdir())


@pytest.mark.parametrize("answers", ["the relay's own sshd", "another volunteer"])
def test_another_sshd_answers(
    led_astray: User, nat: Nat, alpha: Lent, beta: Lent, tmp_path: Path, answers: str
) -> None:
    there = 22 if "own" in answers else beta.listen
    with between(nat.relay.machine, AT, there, tmp_path / "kept"):
        ended = attest(led_astray, "alpha")
    check_failure(ended, 77, "expected host key", hint="Nothing was sent")
    assert is_untouched(alpha) and is_untouched(beta)


def test_the_relay_shows_another_key_itself(user: User, nat: Nat, owner: User, alpha: Lent) -> None:
    """To the borrower and to the machine: both have pinned it, and neither logs in."""
    write_remote(user, nat, alpha)
    known, other = nat.place / "known_hosts", make_key_pair().public
    theirs = alpha.machine.root / "etc/mock-cloud/relay-known-hosts"
    before = known.read_text(), theirs.read_text()
    try:
        for path, text in zip((known, theirs), before, strict=True):
            path.write_text(text.replace(str(nat.relay.host_key), str(other)))
        ended = attest(user, "alpha")
        check_failure(ended, 75, "Host key verification failed")
        checked = nat.lend(owner, alpha.machine, "--check").expect(1).stdout
        assert "failed   relay: Host key verification failed" in checked
    finally:
        for path, text in zip((known, theirs), before, strict=True):
            path.write_text(text)


def logins(one: Lent) -> int:
    return one.machine.machine.console.count("Accepted publickey")


def test_what_was_said_is_said_again(
    led_astray: User, nat: Nat, alpha: Lent, beta: Lent, tmp_path: Path
) -> None:
    """The relay keeps all it carries, and plays it to either side; it has seen no word of it."""
    kept = tmp_path / "kept"
    with between(nat.relay.machine, AT, alpha.listen, kept):
        attest(led_astray, "alpha")  # trusted or not: it went through
        led_astray.release()
    up, down = (Path(f"{kept}.{way}") for way in ("up", "down"))
    assert up.stat().st_size > 100_000 < down.stat().st_size
    for path in (up, down):
        said = path.read_bytes()
        assert b"root:x:0:0" not in said and b"/var/lib/mock-cloud" not in said
    before = logins(alpha)
    answer = send(nat.relay.machine, alpha.listen, up)
    assert answer.startswith(b"SSH-2.0-") and len(answer) < 10_000
    assert logins(alpha) == before and is_untouched(alpha)
    with between(nat.relay.machine, AT, 22, tmp_path / "other", played=down):
        ended = attest(led_astray, "alpha")
    assert ended.code in (75, 77) and "trusted" not in ended.stdout, ended
    assert is_untouched(alpha)


def test_the_relays_users_do_not_get_in(nat: Nat, user: User, alpha: Lent) -> None:
    """Everybody there may use the port; the machine's sshd knows the borrower's key alone."""
    write_remote(user, nat, alpha)
    reached(user, "alpha")
    known = nat.place / "known_volunteers"
    known.write_text(f"[127.0.0.1]:{alpha.listen} {alpha.machine.host_key}\n")
    for key in (nat.relay.root / "etc/ssh/ssh_host_ed25519_key", alpha.machine.root / KEY):
        argv = [*in_network_of(nat.relay.machine), "ssh", "-F", "none", "-i", str(key), "-o",
                f"UserKnownHostsFile={known}", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes",
                "-p", str(alpha.listen), "root@127.0.0.1", "id"]  # fmt: skip
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 255 and "Permission denied (publickey" in done.stderr


# It comes back


def drop_sessions(nat: Nat) -> None:
    """Each session of the relay's sshd ends, as with a restart of it."""
    own = Path(f"/proc/{nat.relay.machine.init_pid}/ns/pid").readlink()
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            is_its = (entry / "ns/pid").readlink() == own
            if is_its and int(entry.name) != nat.relay.machine.init_pid:
                os.kill(int(entry.name), signal.SIGKILL)


def test_a_relay_that_restarts_in_the_build(
    user: User,
    nat: Nat,
    alpha: Lent,
    lab: Lab,
    lab_srpm: Callable[[Recipe], Path],
    tmp_path: Path,
) -> None:
    write_remote(user, nat, alpha)
    reached(user, "alpha")
    vouch(user, nat, alpha, lab)
    results = tmp_path / "r"
    with Command(
        user, "--remote", "alpha", "--resultdir", results, lab_srpm(srpm.sleeping(5))
    ) as command:
        wait_in(results / "build.log", "tick 2")
        drop_sessions(nat)
        os.kill(nat.relay.machine.init_pid, signal.SIGHUP)  # sshd executes itself anew
        command.wait_for("it is tried again until")
        command.wait_for("reached again after")
        ended = command.ended().expect()
    ticks = re.findall(r"^tick \d+$", (results / "build.log").read_text(), re.MULTILINE)
    assert ticks == [f"tick {number}" for number in range(1, 6)]
    assert ended.stderr.count("Start: rpmbuild") == 1


def test_a_line_that_is_dead_and_another_address(
    user: User, nat: Nat, owner: User, alpha: Lent
) -> None:
    """No reset comes of either; both sides notice, and the relay lets go of the port."""
    write_remote(user, nat, alpha)
    reached(user, "alpha")
    ends = len(alpha.unit.ends)
    with nat.volunteers.unplugged(alpha.machine):
        wait_for(lambda: len(alpha.unit.ends) > ends)  # its own keepalive
        checked = nat.lend(owner, alpha.machine, "--check").expect(1).stdout
        assert "failed   relay: ssh: connect to host" in checked
    reached(user, "alpha")

    ends, port = len(alpha.unit.ends), alpha.machine.machine.port
    inside = in_network_of(alpha.machine.machine)
    new = re.sub(r"\d+$", "251", port.address)
    change = "address {0} {1}/24 dev eth0"
    try:
        for one in (change.format("delete", port.address), change.format("add", new)):
            run([*inside, "ip", *one.split()], timeout_s=20)
        run([*inside, "ip", "route", "replace", "default", "via", port.gateway], timeout_s=20)
        wait_for(lambda: len(alpha.unit.ends) > ends)
        reached(user, "alpha")
    finally:
        for one in (change.format("delete", new), change.format("add", port.address)):
            run([*inside, "ip", *one.split()], timeout_s=20)
        run([*inside, "ip", "route", "replace", "default", "via", port.gateway], timeout_s=20)
    reached(user, "alpha")


# Taken back


def test_taken_back(nat: Nat, owner: User, beta: Lent) -> None:
    """Last: what lend wrote goes, and the relay's port leads nowhere."""
    one = beta.machine
    again = nat.lend(
        owner, one, "--borrower", nat.borrower.with_suffix(".pub"), "--owner", "beta's",
        "--name", "beta", "--relay", nat.name, "--relay-host-key", nat.relay_key,
    ).expect()  # fmt: skip
    assert again.stdout == beta.for_relay + beta.table  # idempotent: the same keys
    removed = nat.lend(owner, one, "--remove").expect().stderr
    assert "systemctl stop mock-cloud-lend-relay" in removed
    assert not (one.root / "etc/mock-cloud").exists() and not (one.root / UNIT).exists()
    left = [path for path in (one.root / "etc").rglob("*") if "mock-cloud" in path.name]
    assert left == []
