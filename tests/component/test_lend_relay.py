# SPDX-License-Identifier: GPL-2.0-or-later
"""A relay is a line: what lend writes for one, by real sshds; two keys that do one thing each."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from mock_cloud.cli.lend_relay import KEY, UNIT, Relay, RelayForward
from mock_cloud.cli.machine_root import MachineRoot
from mock_cloud.cloud.hosts.route import find_route
from mock_cloud.errors import HostKeyMismatch, MockCloudError
from mock_cloud.model import HostKey, NodeAddress
from mock_cloud.process import run
from mock_cloud.remote.connect import connect
from mock_cloud.settings import HostSettings
from mock_cloud.sshkeys import make_key_pair
from tests.lab.sshd import Sshd, SshdOptions, find_missing
from tests.lab.units import KeptUnit
from tests.waiting import wait_for

HERE = "127.0.0.1"
PORT = 20_000 + os.getpid() % 10_000  # of the relay's loopback


class _Machine(MachineRoot):
    """A directory that stands for the machine: its files are there, its programs are this one's."""

    def __init__(self, path: Path, sshd: Sshd) -> None:
        super().__init__(path)
        self._sshd = sshd
        for name in ("mock-cloud", "systemd/system"):
            (path / "etc" / name).mkdir(parents=True)
        (path / "proc").symlink_to("/proc")

    def run(self, *argv: str) -> bytes:
        if argv[0].endswith("/sshd"):
            return f"listenaddress {HERE}:{self._sshd.port}\n".encode()
        return run(argv, timeout_s=60)


class Lent:
    """A machine that is lent through a relay, and who borrows it."""

    def __init__(self, place: Path, machine: Sshd, relay: Sshd) -> None:
        self.place, self.machine, self.relay = place, machine, relay
        self.borrower = place / "borrower"
        pair = make_key_pair()
        self.borrower.touch(0o600)
        self.borrower.write_bytes(pair.private.reveal())
        self.login = Relay.parse(f"root@{HERE}:{relay.port}", PORT)
        root = _Machine(place / "root", machine)
        self.forward = RelayForward(root)
        self.forward.write(self.login, relay.host_key.public)
        text = self.forward.describe(self.login, "alpha", pair.public)
        self.lines = [line for line in text.splitlines() if line.startswith("restrict,")]
        self.block = "".join(re.findall(r"^Match .*?^Match all\n", text, re.DOTALL | re.MULTILINE))
        self.unit = root.at(UNIT)
        said = self.unit.read_text()  # the paths are this machine's, since its ssh is
        self.unit.write_text(said.replace("/etc/mock-cloud", str(root.at("/etc/mock-cloud"))))
        self.key = root.at(KEY)
        self.known = place / "known_hosts"
        self.know(relay.host_key.public)
        self.config = place / "ssh_config"
        self.config.write_text(
            f"IdentityFile {self.borrower}\nIdentitiesOnly yes\nUserKnownHostsFile {self.known}\n"
        )

    def know(self, relay: HostKey) -> None:
        """What the borrower has pinned."""
        self.known.write_text(f"[{HERE}]:{self.relay.port} {relay}\n")

    def allow(self, *lines: str) -> None:
        """authorized_keys of the relay."""
        path = self.relay.directory / "authorized_keys"
        path.write_text("".join(f"{line}\n" for line in lines))

    def configure(self, block: str) -> None:
        """The relay's sshd goes by its usual configuration and `block`."""
        self.relay.stop()
        self.relay._options = SshdOptions(block)
        self.relay.__enter__()
        self.allow(*self.lines)

    def client(self, key: Path, *words: str) -> list[str]:
        """OpenSSH's client at the relay, with one of the keys and no other."""
        argv = ["ssh", "-F", "none", "-i", str(key), "-p", str(self.relay.port)]
        for option in ("IdentitiesOnly=yes", "BatchMode=yes", "ExitOnForwardFailure=yes",
                       "LogLevel=ERROR", f"UserKnownHostsFile={self.known}"):  # fmt: skip
            argv += ["-o", option]
        return [*argv, *words]

    def call(self, key: Path, *words: str) -> tuple[int, str]:
        """How it ended, and what was printed."""
        argv = self.client(key, *words)
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=300
        )
        return done.returncode, (done.stdout + done.stderr).decode(errors="replace").strip()

    @property
    def address(self) -> NodeAddress:
        """As a build reaches the machine, by the table that lend prints."""
        public = self.machine.host_key.public
        host = HostSettings("alpha", HERE, "Alice", "x86_64", port=PORT, host_key=public,
                            ssh_config=self.config, jump=self.login.name)  # fmt: skip
        route = find_route(host)
        return NodeAddress(route.host, route.port, "root", public, route.proxy)

    def reach(self, address: NodeAddress | None = None) -> None:
        connect(address or self.address, self.machine.client_key.private, deadline_s=20).close()

    def is_reached(self) -> bool:
        with suppress(MockCloudError):
            self.reach()
            return True
        return False

    def found(self) -> dict[str, tuple[bool, str]]:
        """What lend --check says."""
        return {what: (is_good, said) for what, is_good, said in self.forward.check()}


@pytest.fixture
def lent(tmp_path: Path) -> Iterator[Lent]:
    missing = find_missing()
    if missing:
        pytest.skip(f"needs {missing}")
    with Sshd(tmp_path / "machine") as machine, Sshd(tmp_path / "relay") as relay:
        made = Lent(tmp_path, machine, relay)
        made.configure(made.block)
        yield made


@pytest.mark.parametrize("who", ["machine", "borrower"])
def test_a_key_at_the_relay_does_one_thing(lent: Lent, who: str) -> None:
    key, relay = lent.key if who == "machine" else lent.borrower, f"root@{HERE}"
    for words in (["-T", relay, "id"], ["-t", relay, "id"], ["-T", relay], ["-s", relay, "sftp"]):
        code, said = lent.call(key, *words)
        assert code in (1, 255) and "uid=" not in said, (words, code, said)
    own = f"{HERE}:{lent.machine.port}"
    refused = [
        ["-R", f"{HERE}:{PORT + 1}:{own}"],  # another port
        ["-R", f"0.0.0.0:{PORT}:{own}"],  # to the world
        ["-R", f"*:{PORT}:{own}"],
        ["-R", f"localhost:{PORT}:{own}"],
        ["-R", f"{HERE}:0:{own}"],  # any
        ["-R", f"{lent.place}/socket:{own}"],  # a socket that is a file
        ["-W", f"{HERE}:{lent.relay.port}"],  # the relay's own sshd
        ["-W", "none.invalid:1"],
    ]
    for words in refused:
        code, said = lent.call(key, *words, relay, *([] if "-W" in words else ["-N"]))
        assert code == 255 and "forwarding failed" in said, (words, code, said)
    with KeptUnit(lent.unit, os.getpid()):
        wait_for(lambda: lent.found().get("forward", (False,))[0])
        code, said = lent.call(key, "-W", f"{HERE}:{PORT}", relay)
    assert ("SSH-2.0-" in said) == (who == "borrower"), said


def test_what_less_would_leave_open(lent: Lent) -> None:
    """restrict, port-forwarding and permitlisten are not enough: what sshd enforces of them."""
    relay, socket = f"root@{HERE}", lent.place / "socket"
    less = re.sub(r'command="[^"]*",|,permitopen="[^"]*"', "", lent.lines[0])
    assert less.startswith(f'restrict,port-forwarding,permitlisten="{HERE}:{PORT}" ssh-')
    lent.configure("")
    argv = lent.client(lent.key, "-N", "-R", f"{socket}:{HERE}:1", relay)
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL) as child:
        wait_for(socket.is_socket)
        child.kill()
    lent.allow(less)
    assert lent.call(lent.key, relay, "id")[1].startswith("uid=")
    assert "SSH-2.0-" in lent.call(lent.key, "-W", f"{HERE}:{lent.relay.port}", relay)[1]


def test_the_relay_answers_for_nobody(lent: Lent) -> None:
    """Its own sshd at the machine's port, another machine's, and another key of its own."""
    address = lent.address
    with KeptUnit(lent.unit, os.getpid()), Sshd(lent.place / "other") as other:
        wait_for(lent.is_reached)
        for astray in (lent.relay, other):
            lent.allow(lent.lines[0], lent.lines[1].replace(str(PORT), str(astray.port)))
            there = f"[{HERE}]:{astray.port}"
            way = tuple(there if word == f"[{HERE}]:{PORT}" else word for word in address.proxy)
            with pytest.raises(HostKeyMismatch, match="expected host key"):
                lent.reach(replace(address, proxy=way))
        lent.allow(*lent.lines)
        lent.know(make_key_pair().public)
        assert not lent.is_reached()
        lent.know(lent.relay.host_key.public)
        lent.reach()


def test_it_comes_back_and_check_says_when(lent: Lent) -> None:
    relay = f"{HERE} takes the key"
    assert lent.found() == {
        "relay": (True, relay),
        "forward": (False, "nobody keeps it: systemctl start mock-cloud-lend-relay"),
    }
    with KeptUnit(lent.unit, os.getpid()) as kept:
        wait_for(lent.is_reached)
        assert lent.found() == {"relay": (True, relay), "forward": (True, "it is kept")}
        for pid in lent.relay.session_pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        lent.relay.stop()
        wait_for(lambda: any("Connection refused" in said for said in kept.ends))
        assert "Connection refused" in lent.found()["relay"][1]
        lent.configure(lent.block)
        wait_for(lent.is_reached)
        lent.allow(lent.lines[0].replace('command="/bin/false",', ""))
        assert "runs commands for the key" in lent.found()["relay"][1]
        lent.allow()
        assert "Permission denied" in lent.found()["relay"][1]
    delays = [round(kept.delay_s(number)) for number in range(7)]
    assert delays[0] == 5 and delays == sorted(delays) and delays[-2:] == [60, 60]
