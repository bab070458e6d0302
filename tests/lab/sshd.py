# SPDX-License-Identifier: GPL-2.0-or-later
"""A real sshd of this machine on a free loopback port, with keys and a configuration of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from mock_cloud.model import HostKey, KeyPair, NodeAddress
from mock_cloud.sshkeys import make_key_pair

PROGRAM = "/usr/sbin/sshd"
_START_TIMEOUT_S = 10.0
_SEPARATION_DIR = Path("/run/sshd")


def find_missing() -> str | None:
    """What this machine lacks to run an sshd for a test; None if nothing."""
    if not Path(PROGRAM).exists():
        return f"{PROGRAM} (package openssh-server)"
    if os.geteuid() != 0:
        return "root (sshd needs it to let root in)"
    return None


@dataclass(frozen=True, slots=True)
class SshdOptions:
    """What a test may vary. `extra` is appended to sshd_config."""

    extra: str = ""
    authorized: bool = True


class Sshd:
    """An sshd in the foreground, in a process group of its own; a context manager.

    `directory` gets keys, configuration and log. `extra_host_keys` are paths of further
    private host keys.
    """

    def __init__(
        self,
        directory: Path,
        options: SshdOptions = SshdOptions(),
        extra_host_keys: tuple[Path, ...] = (),
    ) -> None:
        self.directory = directory
        self.host_key: KeyPair = make_key_pair()
        self.client_key: KeyPair = make_key_pair()
        self.port = _free_port()
        self._options = options
        self._extra_host_keys = extra_host_keys
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> NodeAddress:
        return self.address_with(self.host_key.public)

    def address_with(self, host_key: HostKey, port: int | None = None) -> NodeAddress:
        return NodeAddress("127.0.0.1", port or self.port, "root", host_key)

    @property
    def log(self) -> str:
        return (self.directory / "sshd.log").read_text()

    def authorize(self) -> None:
        """Let the client key in, as cloud-init does late in a boot."""
        path = self.directory / "authorized_keys"
        path.write_text(f"{self.client_key.public}\n")
        path.chmod(0o600)

    def __enter__(self) -> Sshd:
        self.directory.mkdir(parents=True, exist_ok=True)
        _SEPARATION_DIR.mkdir(mode=0o755, exist_ok=True)
        key = self.directory / "host_key"
        key.write_bytes(self.host_key.private.reveal())
        key.chmod(0o600)
        if self._options.authorized:
            self.authorize()
        config = self.directory / "sshd_config"
        config.write_text(self._config(key))
        command = [PROGRAM, "-D", "-f", str(config), "-E", str(self.directory / "sshd.log")]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0)
        self._await_listener()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the listener and its sessions. Idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        for pid in self.session_pids(process.pid):
            _kill(pid)
        process.kill()
        process.wait()

    def session_pids(self, listener: int | None = None) -> list[int]:
        """The processes that serve connections, monitors and their children."""
        root = listener or (self._process.pid if self._process else 0)
        found, grown = {root}, True
        while grown:
            grown = False
            for entry in Path("/proc").glob("[0-9]*/stat"):
                try:
                    text = entry.read_text()
                except OSError:
                    continue
                pid, parent = int(text.split()[0]), int(text.rpartition(")")[2].split()[1])
                name = text[text.index("(") + 1 : text.rindex(")")]
                if parent in found and pid not in found and name.startswith("sshd"):
                    found.add(pid)
                    grown = True
        return sorted(found - {root})

    def _config(self, key: Path) -> str:
        keys = "".join(f"HostKey {path}\n" for path in (key, *self._extra_host_keys))
        return (
            f"Port {self.port}\nListenAddress 127.0.0.1\n{keys}"
            f"AuthorizedKeysFile {self.directory}/authorized_keys\n"
            f"PidFile {self.directory}/sshd.pid\n"
            "PermitRootLogin prohibit-password\nStrictModes no\nUsePAM no\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            f"LogLevel VERBOSE\n{self._options.extra}\n"
        )

    def _await_listener(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                probe.settimeout(1)
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            if self._process is None or self._process.poll() is not None:
                break
            time.sleep(0.02)
        raise RuntimeError(f"sshd did not start: {self.log}")


def make_host_key(directory: Path, kind: str) -> tuple[Path, HostKey]:
    """A host key that ssh-keygen makes, of `kind` rsa or ecdsa: its path and public half."""
    path = directory / f"host_{kind}"
    program = shutil.which("ssh-keygen") or "ssh-keygen"
    subprocess.run([program, "-q", "-t", kind, "-N", "", "-f", str(path)], check=True)
    return path, HostKey.parse(path.with_suffix(".pub").read_text())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
