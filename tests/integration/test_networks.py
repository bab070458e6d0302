# SPDX-License-Identifier: GPL-2.0-or-later
"""Lent machines over lines as they are, with an sshd that is sparing and a key that is touched."""

# ruff: noqa: F401, F811 - a fixture is imported

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from mock_cloud.process import run
from tests.integration.conftest import User
from tests.integration.lent_users import MakeUser, make_user_of
from tests.lab.clouds.machines import Machine
from tests.lab.layout import Lab, locked
from tests.lab.packet_line import PacketLine
from tests.lab.touch_agent import TouchAgent
from tests.lab.volunteers import Volunteers, build
from tests.waiting import wait_for

pytestmark = [pytest.mark.lab, pytest.mark.slow]

GATE = "root@GATE"


@pytest.fixture(scope="module")
def volunteers(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Volunteers]:
    """The sshd of alpha takes one session a connection, and one connection that logs in."""
    with locked(lab):
        build(lab)
    place = tmp_path_factory.mktemp("volunteers")
    with Volunteers(lab, place, {"alpha": "MaxSessions 1\nMaxStartups 1"}) as made:
        yield made


def netns_of(volunteers: Volunteers) -> str:
    return f"/proc/{volunteers.alpha.machine.init_pid}/ns/net"


def move(user: User, volunteers: Volunteers, address: str) -> None:
    """Have the machine reached at another address of it."""
    remote = user.config.path / "remotes.d/alpha.toml"
    old = volunteers.alpha.machine.address
    remote.write_text(remote.read_text().replace(f'"{old}"', f'"{address}"'))


def test_a_machine_with_ipv6_only_and_a_repository_with_ipv4_only(
    make_user_of: MakeUser,
    volunteers: Volunteers,
    plain_srpm: Path,
    tmp_path: Path,
) -> None:
    """Its packets have 1280 bytes, which is IPv6's least. What it cannot reach comes through us."""
    netns, port = netns_of(volunteers), volunteers.alpha.machine.port
    ip = ["nsenter", f"--net={netns}", "ip"]
    with PacketLine(netns, six=True, mtu=1280) as line:
        run([*ip, "-4", "address", "flush", "dev", "eth0"], timeout_s=10)
        try:
            user = make_user_of("alpha", url=volunteers.repository.url)
            move(user, volunteers, line.there)
            built = user.mock("--resultdir", tmp_path / "results", plain_srpm).expect()
            user.release()
        finally:
            run([*ip, "address", "add", f"{port.address}/24", "dev", "eth0"], timeout_s=10)
            run([*ip, "route", "add", "default", "via", port.gateway], timeout_s=10)
    assert "reached through this machine: lab\n" in built.stderr
    assert list((tmp_path / "results").glob("toy-plain-*.noarch.rpm"))


def test_a_path_that_swallows_large_packets(
    make_user_of: MakeUser, volunteers: Volunteers, plain_srpm: Path, tmp_path: Path
) -> None:
    """No ICMP says so, so TCP sends them again for ever: noticed as silence, and gone round."""
    netns = netns_of(volunteers)
    user = make_user_of("alpha", "silence_timeout = 5\n", url=volunteers.repository.url)
    with PacketLine(netns, largest=1300) as line:
        move(user, volunteers, line.there)
        built = user.mock("--resultdir", tmp_path / "results", plain_srpm).expect()
        user.release()
        assert line.swallowed > 0
    assert list((tmp_path / "results").glob("toy-plain-*.noarch.rpm")), built.stderr


def has_sessions(machine: Machine) -> bool:
    """Whether somebody is logged in."""
    own = Path(f"/proc/{machine.init_pid}/ns/pid").readlink()
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            is_there = (entry / "ns/pid").readlink() == own
            if is_there and (entry / "cmdline").read_bytes().startswith(b"sshd: root"):
                return True
    return False


def test_three_hundred_milliseconds_and_two_percent_lost(
    make_user_of: MakeUser,
    volunteers: Volunteers,
    plain_srpm: Path,
    tmp_path: Path,
) -> None:
    """The toolkit is there, which would take such a line some minutes; all else is not."""
    user = make_user_of("alpha", url=volunteers.repository.url)
    with PacketLine(netns_of(volunteers)) as line:
        move(user, volunteers, line.there)
        user.mock("--init").expect()
        line.delay_s, line.loss = 0.15, 0.02
        built = user.mock("--resultdir", tmp_path / "results", plain_srpm).expect()
        assert line.lost > 0
        line.delay_s, line.loss = 0.0, 0.0
        user.release()
        # What says that a connection has ended may have been lost, and is sent once more.
        wait_for(lambda: not has_sessions(volunteers.alpha.machine))
    assert list((tmp_path / "results").glob("toy-plain-*.noarch.rpm")), built.stderr


@pytest.mark.parametrize(
    ("table", "counts"),
    [
        ("", [3, 3, 3, 1]),  # to ask for the machine, to have its sshd reread, to work; to end it
        ("certificate = true\n", [1, 1, 1, 1]),
        (f'certificate = true\njump = "{GATE}"\n', [2, 2, 2, 2]),  # at the jump host as well
    ],
)
def test_touches_of_a_command(
    make_user_of: MakeUser, volunteers: Volunteers, plain_srpm: Path, tmp_path: Path,
    table: str, counts: list[int],
) -> None:  # fmt: skip
    """One for each login or one for all, however much goes through it (docs/networks.md)."""
    gate = volunteers.gate.machine.address
    plain = make_user_of(
        "alpha", url=volunteers.repository.url, table=table.replace(GATE, f"root@{gate}")
    )
    socket, known = tmp_path / "agent", tmp_path / "known_hosts"
    known.write_text(f"{gate} {volunteers.gate.host_key}\n")
    with TouchAgent(socket, volunteers.user_key.read_bytes()) as agent:
        public = tmp_path / "key.pub"
        public.write_text(f"{agent.public}\n")
        config = tmp_path / "ssh_config"
        config.write_text(f"UserKnownHostsFile {known}\nIdentityFile {public}\n")
        remote = plain.config.path / "remotes.d/alpha.toml"
        identity = f'identity = "{volunteers.user_key}"'
        assert identity in remote.read_text()
        remote.write_text(
            remote.read_text().replace(identity, f'identity = "{public}"\nssh_config = "{config}"')
        )
        user = replace(plain, extra={"SSH_AUTH_SOCK": str(socket)})
        seen = []
        for words in (("--rebuild",), ("--no-clean", "--rebuild"), ("--chain", "--localrepo",
                      tmp_path / "local")):  # fmt: skip
            results = () if "--chain" in words else ("--resultdir", tmp_path / "results")
            srpms = (plain_srpm,)
            user.mock(*words, *results, *srpms).expect()
            seen.append(agent.touched)
            agent.touched = 0
        user.release()
        seen.append(agent.touched)
    assert seen == counts
