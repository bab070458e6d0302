# SPDX-License-Identifier: GPL-2.0-or-later
"""The way to a lent machine that can only call out: a forward from a relay, kept by its own ssh.

The machine calls the relay and has it listen on its loopback; borrowers come through there with
``ssh -W``, to an sshd whose host key they have pinned. The relay carries ciphertext. What each key
may do there is decision 0143.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from mock_cloud.cli.machine_root import MachineRoot
from mock_cloud.cloud.hosts.route import STRICT
from mock_cloud.errors import CommandLineError, ConfigError
from mock_cloud.model import LOOPBACK, SSH_PORT, HostKey
from mock_cloud.process import CommandFailed
from mock_cloud.sshkeys import make_key_pair
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.files import replace_file

KEY: Final = "/etc/mock-cloud/relay-key"
KNOWN_HOSTS: Final = "/etc/mock-cloud/relay-known-hosts"
UNIT: Final = "/etc/systemd/system/mock-cloud-lend-relay.service"
_WANTED: Final = "/etc/systemd/system/multi-user.target.wants/mock-cloud-lend-relay.service"
_FILES: Final = (UNIT, _WANTED, KEY, f"{KEY}.pub", KNOWN_HOSTS)

_FIRST_PORT, _PORTS = 20_000, 10_000
"""Below those that Linux gives to sockets which ask for none."""
_NOWHERE: Final = "none.invalid:1"
"""For permitopen and permitlisten, which have no word for none in authorized_keys."""
_NAME: Final = re.compile(
    r"(?P<user>[A-Za-z_][A-Za-z0-9_-]*)@"
    r"(?:\[(?P<v6>[0-9A-Fa-f:]+)\]|(?P<host>[A-Za-z0-9][A-Za-z0-9.-]*))(?::(?P<port>[0-9]{1,5}))?"
)
# Root's, since there is no account to be had (0137), and with nothing that root can do besides
# reading the key. Nothing of it is a shell's: ExecStart takes words as shlex writes these.
_UNIT: Final = """\
# Written by mock-cloud lend; mock-cloud lend --remove takes it away.
[Unit]
Description=Forward from the relay {host} to the sshd of this lent machine
Documentation=man:mock-cloud(1)
After=network.target
StartLimitIntervalSec=0

[Service]
ExecStart={command}
Restart=always
RestartSec=5
RestartSteps=5
RestartMaxDelaySec=60
NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectSystem=strict
ProtectHome=yes
ProtectKernelTunables=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6

[Install]
WantedBy=multi-user.target
"""
_FOR_RELAY: Final = """\
# For the relay {host}, whose sshd reads this in sshd_config.d or at the end of sshd_config:
Match User {user}
    AllowTcpForwarding yes
    AllowStreamLocalForwarding no
    GatewayPorts no
    ClientAliveInterval 5
    ClientAliveCountMax 3
Match all

# In ~{user}/.ssh/authorized_keys there; the machine's key, then the borrower's:
{machine} {name}
{borrower} borrower of {name}

# What the unit runs, for a machine without systemd, as root and started again whenever it ends:
# {command}

# In the borrower's ~/.ssh/known_hosts:
{known}
"""


@dataclass(frozen=True, slots=True)
class Relay:
    """Where the machine calls: a login there, its host key, and its port that leads back."""

    user: str
    host: str
    port: int
    listen: int

    @classmethod
    def parse(cls, text: str, listen: int) -> Relay:
        """From ``user@host[:port]``. CommandLineError."""
        found = _NAME.fullmatch(text)
        port = int(found["port"] or SSH_PORT) if found else 0
        if found is None or not 0 < port < 65536 or not 1023 < listen < 65536:
            raise CommandLineError(
                f"invalid relay {text!r} with port {listen}",
                hint="--relay user@host[:port], --relay-listen a port from 1024 on",
            )
        return cls(found["user"], found["v6"] or found["host"], port, listen)

    @property
    def name(self) -> str:
        """As ``ssh -J`` names it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.user}@{host}:{self.port}"

    def known_hosts(self, host_key: HostKey) -> str:
        """The line of known_hosts that pins its key."""
        host = self.host if self.port == SSH_PORT else f"[{self.host}]:{self.port}"
        return f"{host} {host_key}\n"

    def login(self) -> list[str]:
        """ssh's words up to the relay's name: no question, no file of any user's."""
        options = (f"UserKnownHostsFile={KNOWN_HOSTS}", "GlobalKnownHostsFile=/dev/null",
                   "IdentitiesOnly=yes", "IdentityAgent=none", "ExitOnForwardFailure=yes",
                   *STRICT)  # fmt: skip
        words = [word for option in options for word in ("-o", option)]
        return ["/usr/bin/ssh", "-F", "none", "-T", "-i", KEY, *words, "-l", self.user,
                "-p", str(self.port)]  # fmt: skip

    def forward(self, sshd: str) -> list[str]:
        """ssh's words for the way back to `sshd`, the machine's own."""
        return ["-R", f"{LOOPBACK}:{self.listen}:{sshd}"]

    def machine_key(self, key: HostKey) -> str:
        """The machine's line in authorized_keys: it listens at its port, and does nothing else."""
        return _key_line(key, listen=f"{LOOPBACK}:{self.listen}")

    def borrower_key(self, key: HostKey) -> str:
        """The borrower's: it goes to that port, and does nothing else."""
        return _key_line(key, open_=f"{LOOPBACK}:{self.listen}")


def _key_line(key: HostKey, *, listen: str = _NOWHERE, open_: str = _NOWHERE) -> str:
    """`restrict` alone leaves commands, and port-forwarding alone every port of every host."""
    return (
        f'restrict,command="/bin/false",port-forwarding,permitlisten="{listen}",'
        f'permitopen="{open_}" {key}'
    )


def choose_port(host_key: HostKey) -> int:
    """A port at the relay that hardly another machine has, and this one has each time."""
    return _FIRST_PORT + int.from_bytes(hashlib.sha256(host_key.blob).digest()[:4], "big") % _PORTS


class RelayForward:
    """What of it lies on the machine: a key, the relay's host key, and the unit that calls."""

    def __init__(self, root: MachineRoot) -> None:
        self._root = root

    def write(self, relay: Relay, host_key: HostKey) -> None:
        """Write all of it; a key that is there stays. Idempotent. OSError, CommandFailed."""
        root, command = self._root, self.command(relay)
        if not root.at(KEY).exists():
            pair = make_key_pair()
            replace_file(root.at(f"{KEY}.pub"), f"{pair.public}\n".encode(), 0o644)
            replace_file(root.at(KEY), pair.private.reveal(), 0o600)
        replace_file(root.at(KNOWN_HOSTS), relay.known_hosts(host_key).encode(), 0o644)
        root.at(_WANTED).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        text = _UNIT.format(host=relay.host, command=shlex.join(command))
        replace_file(root.at(UNIT), text.encode(), 0o644)
        with suppress(FileExistsError):
            root.at(_WANTED).symlink_to(UNIT)

    def command(self, relay: Relay) -> list[str]:
        """What the unit runs. CommandFailed."""
        sshd = _find_sshd(self._root.run("/usr/sbin/sshd", "-T").decode())
        return [*relay.login(), "-N", *relay.forward(sshd), "--", relay.host]

    def describe(self, relay: Relay, name: str, borrower: HostKey) -> str:
        """What the relay's administrator has to know. ConfigError without a key."""
        key = self._root.find_key(f"{KEY}.pub")
        if key is None:
            raise ConfigError(f"there is no {KEY}.pub")
        return _FOR_RELAY.format(
            host=relay.host, user=relay.user, name=name, machine=relay.machine_key(key),
            borrower=relay.borrower_key(borrower), command=shlex.join(self.command(relay)),
            known=self._root.read(KNOWN_HOSTS).strip(),
        )  # fmt: skip

    def files(self) -> list[str]:
        """What of it is there."""
        at = self._root.at
        return [name for name in _FILES if at(name).exists() or at(name).is_symlink()]

    def check(self) -> Iterator[tuple[str, bool, str]]:
        """What is asked, whether it is so, and what was found: the relay, and the way back."""
        command = self._unit_command()
        if not command:
            yield UNIT, False, "missing or changed"
            return
        relay, login = command[-1], command[: command.index("-N")]
        said = self._call(login, relay)
        if said is not None:
            yield "relay", False, said
            return
        yield "relay", True, f"{relay} takes the key"
        said = self._call([*login, *command[len(login) + 1 : -2]], relay)
        if said is None:
            yield "forward", False, "nobody keeps it: systemctl start mock-cloud-lend-relay"
        elif "forwarding failed" in said and self._is_kept(command):
            yield "forward", True, "it is kept"
        else:
            yield "forward", False, f"{said}; another's port, or another line at the relay?"

    def _call(self, words: list[str], relay: str) -> str | None:
        """What is wrong with a login that asks for a command; None if only that is refused."""
        try:
            self._root.run(*words, "--", relay, "true")
        except CommandFailed as error:
            last = (error.output.strip().splitlines() or ["it did not answer"])[-1]
            return None if error.status == "exit status 1" else last
        return f"{relay} runs commands for the key: its line there is another"

    def _unit_command(self) -> list[str]:
        lines = self._root.read(UNIT).splitlines()
        found = [line.partition("=")[2] for line in lines if line.startswith("ExecStart=")]
        words = shlex.split(found[0]) if len(found) == 1 else []
        return words if words[:1] == ["/usr/bin/ssh"] and words[-2:-1] == ["--"] else []

    def _is_kept(self, command: list[str]) -> bool:
        """Whether a process of the machine runs just this."""
        wanted = b"".join(f"{word}\0".encode() for word in command)
        for entry in self._root.at("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                if entry.read_bytes() == wanted:
                    return True
        return False


def _find_sshd(said: str) -> str:
    """Where the machine itself reaches its sshd, of what ``sshd -T`` says."""
    found = re.search(r"^listenaddress (\S+):([0-9]+)$", said, re.MULTILINE)
    if found is None:
        return f"{LOOPBACK}:{SSH_PORT}"
    everywhere = found[1] in ("0.0.0.0", "[::]")  # noqa: S104 (read, not listened on)
    return f"{LOOPBACK if everywhere else found[1]}:{found[2]}"
