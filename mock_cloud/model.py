# SPDX-License-Identifier: GPL-2.0-or-later
"""Words shared by every layer: addresses, keys, secrets, toolkits, trusted nodes.

Nothing here does I/O; everything may import this.
"""

from __future__ import annotations

import base64
import hashlib
import time
from dataclasses import field
from pathlib import Path
from typing import Final

from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.decode import Port
from mock_cloud.wire.layout import WORKSPACE

DAY_S: Final = 86400
SSH_PORT: Final = 22
LOOPBACK: Final = "127.0.0.1"
"""Not ``localhost``, which is ::1 besides: somebody else could listen at that one."""

TIME_MAX: Final = 253402300799
"""The last second of the year 9999, in Unix time: RFC 3339 can write no later one."""


def utc_text(unix: float) -> str:
    """A time in the form of RFC 3339, in UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(min(unix, TIME_MAX)))


@dataclass(frozen=True, slots=True)
class SshdReload:
    """What the agent said when it had the node's sshd read its configuration anew.

    `listener` is the pid of the sshd that did, None where each connection has one of its own;
    `since` the time in clock ticks since boot: an sshd process started then or later goes by what
    was read. `ran`: executable and arguments of what ran meanwhile. `agents` are pids of
    agents on other connections of this controller, which stay.
    """

    listener: int | None
    since: int
    ran: tuple[tuple[str, tuple[str, ...]], ...] = field(default=(), repr=False)
    agents: tuple[int, ...] = ()


class Secret:
    """Bytes that neither `repr` nor formatting reveals. Read them with `reveal()`."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "Secret(…)"

    def __reduce__(self) -> str:
        raise TypeError("a Secret is never serialised")


ED25519: Final = "ssh-ed25519"
"""The one kind of key whose signatures are made and verified here."""


@dataclass(frozen=True, slots=True)
class HostKey:
    """An SSH public host key: `algorithm` (``ssh-ed25519``) and the RFC 4253 key blob."""

    algorithm: str
    blob: bytes

    @classmethod
    def parse(cls, line: str) -> HostKey:
        """From ``ALGORITHM BASE64 [comment]``, the form of a ``.pub`` file. ValueError."""
        words = line.split()
        if len(words) < 2:
            raise ValueError("a public key line has an algorithm and a base64 blob")
        return cls(words[0], base64.b64decode(words[1], validate=True))

    def __str__(self) -> str:
        return f"{self.algorithm} {base64.b64encode(self.blob).decode()}"

    @property
    def fingerprint(self) -> str:
        """``SHA256:…`` without padding, as ssh-keygen prints it."""
        digest = hashlib.sha256(self.blob).digest()
        return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An ed25519 SSH key pair: OpenSSH private key file bytes and its public half."""

    private: Secret
    public: HostKey


@dataclass(frozen=True, slots=True)
class UserKeys:
    """The user's own SSH keys, by name only: what they hold is read when it is needed.

    `files` are paths of private keys, tried in this order; one that has a passphrase is used
    through the SSH agent, if that holds it. `whole_agent`: the agent's other keys come after them.
    `agent` is the path of its socket; empty: none; None: $SSH_AUTH_SOCK's. `certifies` is a login
    name: the first key signs a certificate for it, once in a process, and another one logs in.
    """

    files: tuple[str, ...] = ()
    whole_agent: bool = True
    agent: str | None = None
    certifies: str = ""


ClientKey = Secret | UserKeys
"""What a connection is authenticated with: an unencrypted OpenSSH private key, or the user's."""


@dataclass(frozen=True, slots=True)
class NodeAddress:
    """Where a node's sshd listens, and the only host key it may answer with.

    `proxy` is a command whose stdin and stdout lead there (OpenSSH's ProxyCommand, as a list of
    arguments); empty for a TCP connection. `user_keys` say how this user gets in; None where
    the lease has a key of its own.
    """

    host: str
    port: Port
    user: str
    host_key: HostKey
    proxy: tuple[str, ...] = ()
    user_keys: UserKeys | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.user}@{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class ToolkitFile:
    """One file of a toolkit: permission bits, size in bytes, sha256 in hex."""

    mode: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Toolkit:
    """A packed toolkit on the controller.

    `archive` is a gzip'd tar whose members are relative to the toolkit's directory on the
    node, `WORKSPACE/toolkit/DIGEST/`. `digest` is the sha256 (hex) of the archive, `files`
    maps member path to its facts. `argv(…)` starts the agent on the node.
    """

    digest: str
    archive: Path
    arch: str
    python_version: str
    files: dict[str, ToolkitFile] = field(repr=False)

    @property
    def node_dir(self) -> str:
        return f"{WORKSPACE}/toolkit/{self.digest}"

    def argv(self, *words: str) -> list[str]:
        """The agent's command line on the node: our loader, our libraries, our python."""
        return toolkit_argv(self.node_dir, "main.py", *words)


def toolkit_argv(root: str, script: str, *words: str) -> list[str]:
    """What runs `script`, which lies beside the agent, by the toolkit in the directory `root`."""
    return [
        f"{root}/ld.so",
        "--inhibit-cache",
        "--library-path",
        f"{root}/lib",
        f"{root}/bin/python3",
        "-I",
        "-S",
        "-B",
        f"{root}/agent/{script}",
        *words,
    ]


_SEAL: Final = object()


@dataclass(frozen=True, slots=True)
class TrustedNode:
    """Proof that a node was attested. Only `attest.verify` makes one.

    `host_key` is the key that the verdict was bound to: a channel whose transport shows
    another key can't be used with this proof. `verdict_sha256` (hex) identifies the verdict
    that the session stored. `layers` maps a layer's path on the node to its verified tree
    digest; only these may be reused.
    """

    host_key: HostKey
    verdict_sha256: str
    tier: int
    layers: dict[str, str]
    seal: object = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.seal is not _SEAL:
            raise TypeError("a TrustedNode is made by mock_cloud.attest.verify only")


@dataclass(frozen=True, slots=True)
class Blob:
    """An input to send: a file's path or its bytes, with its sha256 (hex) and size."""

    digest: str
    size_bytes: int
    source: Path | bytes
