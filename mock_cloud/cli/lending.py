# SPDX-License-Identifier: GPL-2.0-or-later
"""What lending puts on a machine, takes away again, and needs: sshd, the borrower's key, a key.

Nothing else of the machine's is changed: sshd gets a file of its own, and its other keys stay.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from mock_cloud.cli.lend_relay import Relay, RelayForward
from mock_cloud.cli.machine_root import MachineRoot
from mock_cloud.config.remote_text import Value, write_toml
from mock_cloud.errors import ConfigError, InputError
from mock_cloud.model import LOOPBACK, HostKey
from mock_cloud.process import CommandFailed
from mock_cloud.sshkeys import make_key_pair
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.files import replace_file
from mock_cloud.wire.layout import HOST_KEY_FILE
from mock_cloud.wire.owner_statement import NAMESPACE, OWNER_KEY

DROP_IN: Final = "/etc/ssh/sshd_config.d/10-mock-cloud-lend.conf"
BORROWERS: Final = "/etc/mock-cloud/borrower-keys"
HOST_KEY: Final = f"{HOST_KEY_FILE}.pub"

_CERTIFIES: Final = "cert-authority "
_SSHD: Final = "/usr/sbin/sshd"
_TEXT: Final = f"""\
# Written by mock-cloud lend; mock-cloud lend --remove takes it away.
Match User root
    PermitRootLogin prohibit-password
    PubkeyAuthentication yes
    AuthorizedKeysFile .ssh/authorized_keys {BORROWERS}
    AllowTcpForwarding yes
Match all
"""
_WANTED: Final = (
    ("permitrootlogin", ("without-password", "prohibit-password", "yes")),
    ("pubkeyauthentication", ("yes",)),
    ("allowtcpforwarding", ("yes",)),
)
"""What `sshd -T` must say for root; OpenSSH prints prohibit-password by its old name."""
_PROGRAMS: Final = ("rpm", "dnf", "unshare", "ssh-keygen")


@dataclass(frozen=True, slots=True)
class LendingCheck:
    """One thing that lending needs: whether it is so, and what was found."""

    what: str
    is_good: bool
    found: str


class LentMachine:
    """A machine by its root directory, which is this machine's own or another one's."""

    def __init__(self, root: Path) -> None:
        self._root = MachineRoot(root)
        self.forward = RelayForward(self._root)

    @property
    def host_key(self) -> HostKey:
        """What its sshd answers with. ConfigError without one."""
        key = self._root.find_key(HOST_KEY)
        if key is None:
            raise ConfigError(f"there is no {HOST_KEY}", hint="ssh-keygen -A makes host keys")
        return key

    def lend(
        self,
        borrower: HostKey,
        *,
        with_owner_key: bool,
        relay: Relay | None = None,
        relay_key: HostKey | None = None,
    ) -> HostKey | None:
        """Let `borrower` in as root; the owner's key, made if there is none and it is wanted.

        With a `relay`, of which `relay_key` is the host key, by a forward from there as well.
        Idempotent. sshd has to read its configuration anew. ConfigError, InputError.
        """
        if not self._includes_drop_ins():
            raise ConfigError(
                f"sshd_config in {self._root.path} includes no files of sshd_config.d",
                hint="put Include /etc/ssh/sshd_config.d/*.conf at its top",
            )
        try:
            self._root.at(BORROWERS).parent.mkdir(mode=0o755, exist_ok=True)
            self._root.at(DROP_IN).parent.mkdir(mode=0o755, exist_ok=True)
            # It logs in itself, or signs a certificate that does: one touch a command, not a login.
            lines = f"{borrower}\n{_CERTIFIES}{borrower}\n"
            replace_file(self._root.at(BORROWERS), lines.encode(), 0o600)
            replace_file(self._root.at(DROP_IN), _TEXT.encode(), 0o644)
            if with_owner_key and not self._root.at(OWNER_KEY).exists():
                pair = make_key_pair()
                replace_file(self._root.at(f"{OWNER_KEY}.pub"), f"{pair.public}\n".encode(), 0o644)
                replace_file(self._root.at(OWNER_KEY), pair.private.reveal(), 0o600)
            self._root.run(_SSHD, "-t")
            if relay is not None and relay_key is not None:
                self.forward.write(relay, relay_key)
        except OSError as error:
            raise InputError(f"cannot write {error.filename}: {error.strerror}") from error
        except CommandFailed as error:
            self._root.at(DROP_IN).unlink(missing_ok=True)
            raise ConfigError(f"sshd does not take its configuration: {error.message}") from error
        return self._root.find_key(f"{OWNER_KEY}.pub") if with_owner_key else None

    def remove(self, *, with_owner_key: bool) -> list[str]:
        """Take away what `lend` wrote; the names of what was there. Idempotent. InputError."""
        names = [DROP_IN, BORROWERS]
        names += [OWNER_KEY, f"{OWNER_KEY}.pub"] if with_owner_key else []
        there = [name for name in names if self._root.at(name).exists()] + self.forward.files()
        try:
            for name in there:
                self._root.at(name).unlink()
        except OSError as error:
            raise InputError(f"cannot remove {error.filename}: {error.strerror}") from error
        with suppress(OSError):  # what else is in it is not ours
            self._root.at(BORROWERS).parent.rmdir()
        return there

    def check(self) -> Iterator[LendingCheck]:
        """Whether a borrower gets in, can measure and build there, and the owner's key signs."""
        text = self._root.read(DROP_IN)
        is_ours = text == _TEXT
        yield LendingCheck(DROP_IN, is_ours, "as written" if is_ours else "missing or changed")
        lines = self._root.read(BORROWERS).splitlines()
        keys = {line.removeprefix(_CERTIFIES) for line in lines}
        yield LendingCheck(BORROWERS, len(keys) == 1, f"{len(keys)} key{'s'[: len(keys) != 1]}")
        yield from self._check_sshd()
        for name in _PROGRAMS:
            places = [f"{place}/{name}" for place in ("/usr/bin", "/usr/sbin", "/bin", "/sbin")]
            found = next((one for one in places if self._root.at(one).exists()), "")
            yield LendingCheck(name, bool(found), found or "not there")
        host_key = self._root.find_key(HOST_KEY)
        yield LendingCheck("host key", host_key is not None,
                      host_key.fingerprint if host_key else f"no {HOST_KEY}")  # fmt: skip
        if self._root.at(OWNER_KEY).exists():
            yield self._check_owner_key()
        if self.forward.files():
            yield from (LendingCheck(*one) for one in self.forward.check())

    def describe(self, name: str, address: str, owner: str, relay: Relay | None = None) -> str:
        """Its table for the borrower's remote file. ConfigError without a host key."""
        host_key, owner_key = self.host_key, self._root.find_key(f"{OWNER_KEY}.pub")
        way: dict[tuple[str, str], Value] = {(f"host.{name}", "address"): address}
        if relay is not None:
            way = {
                (f"host.{name}", "address"): LOOPBACK,
                (f"host.{name}", "port"): relay.listen,
                (f"host.{name}", "jump"): relay.name,
            }
        answers = way | {
            (f"host.{name}", "owner"): owner,
            (f"host.{name}", "arch"): os.uname().machine,
            (f"host.{name}", "host_key"): str(host_key),
        }
        if owner_key is not None:
            answers[f"host.{name}", "owner_key"] = str(owner_key)
        return write_toml(answers, "A lent machine: its table in the remote's file.").rstrip()

    def _check_sshd(self) -> Iterator[LendingCheck]:
        try:
            said = self._root.run(
                _SSHD, "-T", "-C", "user=root,host=localhost,addr=127.0.0.1"
            ).decode()
        except CommandFailed as error:
            yield LendingCheck("sshd", False, error.message)
            return
        effective = dict(line.lower().split(" ", 1) for line in said.splitlines() if " " in line)
        for name, wanted in _WANTED:
            found = effective.get(name, "nothing")
            yield LendingCheck(f"sshd for root: {name}", found in wanted, found)
        files = effective.get("authorizedkeysfile", "")
        yield LendingCheck("sshd for root: authorizedkeysfile", BORROWERS in files.split(), files)

    def _check_owner_key(self) -> LendingCheck:
        mode = stat.S_IMODE(self._root.at(OWNER_KEY).stat().st_mode)
        if mode & 0o077:
            return LendingCheck("owner's key", False, f"mode {mode:04o}: others may read it")
        try:
            self._root.run("/usr/bin/ssh-keygen", "-Y", "sign", "-n", NAMESPACE, "-f", OWNER_KEY)
        except CommandFailed as error:
            return LendingCheck("owner's key", False, error.message)
        return LendingCheck("owner's key", True, "it signs")

    def _includes_drop_ins(self) -> bool:
        lines = (line.split() for line in self._root.read("/etc/ssh/sshd_config").splitlines())
        return any(
            words[0].lower() == "include" and "sshd_config.d/*.conf" in " ".join(words[1:])
            for words in lines
            if words
        )
