# SPDX-License-Identifier: GPL-2.0-or-later
"""What lend writes for a relay, word by word; tests/integration/test_lend_relay.py runs it."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from mock_cloud.cli.lend_relay import UNIT, Relay, RelayForward, _find_sshd, choose_port
from mock_cloud.cli.machine_root import MachineRoot
from mock_cloud.errors import CommandLineError
from mock_cloud.sshkeys import make_key_pair


class WithSshd(MachineRoot):
    """A root directory whose sshd says where it listens."""

    said = b"port 22\nlistenaddress 0.0.0.0:22\n"

    def run(self, *argv: str) -> bytes:
        assert argv == ("/usr/sbin/sshd", "-T")
        return self.said


@pytest.mark.parametrize(
    ("text", "listen"),
    [
        ("relay.example.org", 20_000),
        ("@relay", 20_000),
        ("a b@relay", 20_000),
        ("relay@-oProxyCommand=x", 20_000),
        ("relay@host %h", 20_000),
        ("relay@host\nMatch all", 20_000),
        ("relay@host:0", 20_000),
        ("relay@host:65536", 20_000),
        ("relay@host:22:22", 20_000),
        ("relay@[::1", 20_000),
        ("relay@host", 22),
        ("relay@host", 65_536),
    ],
)
def test_what_is_no_relay(text: str, listen: int) -> None:
    with pytest.raises(CommandLineError):
        Relay.parse(text, listen)


def test_names_and_known_hosts() -> None:
    key = make_key_pair().public
    plain, other = Relay.parse("r@h.example", 20_000), Relay.parse("r@[2001:db8::1]:2222", 20_000)
    assert (plain.name, plain.known_hosts(key)) == ("r@h.example:22", f"h.example {key}\n")
    assert (other.name, other.host) == ("r@[2001:db8::1]:2222", "2001:db8::1")
    assert other.known_hosts(key) == f"[2001:db8::1]:2222 {key}\n"


def test_each_key_line_says_both() -> None:
    relay, key = Relay.parse("r@h", 20_001), make_key_pair().public
    start = 'restrict,command="/bin/false",port-forwarding,'
    assert relay.machine_key(key) == (
        f'{start}permitlisten="127.0.0.1:20001",permitopen="none.invalid:1" {key}'
    )
    assert relay.borrower_key(key) == (
        f'{start}permitlisten="none.invalid:1",permitopen="127.0.0.1:20001" {key}'
    )


def test_a_port_is_the_host_keys_and_below_the_ephemeral_ones() -> None:
    keys = [make_key_pair().public for _ in range(50)]
    ports = [choose_port(key) for key in keys]
    assert ports == [choose_port(key) for key in keys] and len(set(ports)) > 40
    assert all(20_000 <= port < 30_000 for port in ports)


@pytest.mark.parametrize(
    ("said", "where"),
    [
        ("port 22\nlistenaddress [::]:22\nlistenaddress 0.0.0.0:22\n", "127.0.0.1:22"),
        ("listenaddress 127.0.0.1:2022\n", "127.0.0.1:2022"),
        ("listenaddress [::1]:22\n", "[::1]:22"),
        ("listenaddress 192.0.2.7:22\n", "192.0.2.7:22"),
        ("", "127.0.0.1:22"),
    ],
)
def test_where_sshd_is(said: str, where: str) -> None:
    assert _find_sshd(said) == where


def test_the_unit_is_one(tmp_path: Path) -> None:
    forward, relay = RelayForward(WithSshd(tmp_path)), Relay.parse("relay@h.example:2222", 20_000)
    (tmp_path / "etc/mock-cloud").mkdir(parents=True)
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    forward.write(relay, make_key_pair().public)
    forward.write(relay, make_key_pair().public)
    unit = tmp_path / UNIT.lstrip("/")
    (line,) = [one for one in unit.read_text().splitlines() if one.startswith("ExecStart=")]
    words = shlex.split(line.removeprefix("ExecStart="))
    assert words == forward.command(relay) and words[-2:] == ["--", "h.example"]
    assert not set(line) & set("%$\"'\\;")  # nothing that systemd would read otherwise
    wanted = unit.parent / "multi-user.target.wants" / unit.name
    assert str(wanted.readlink()) == UNIT
    assert (tmp_path / "etc/mock-cloud/relay-key").stat().st_mode & 0o777 == 0o600
    assert len(forward.files()) == 5
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze on this machine, which reads units")
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    new = ("RestartSteps", "RestartMaxDelaySec")  # since systemd 254; older ones pass over them
    lines = [one for one in done.stderr.splitlines() if unit.name in one]
    assert all(any("Unknown key" in one and key in one for key in new) for one in lines), lines
