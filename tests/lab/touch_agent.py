# SPDX-License-Identifier: GPL-2.0-or-later
"""An SSH agent whose one key lives in a device that wants to be touched: it counts how often.

The protocol is draft-ietf-sshm-ssh-agent's, the key OpenSSH's sk-ssh-ed25519@openssh.com
(PROTOCOL.u2f). An ordinary ed25519 key can stand in for one, where that is what a machine knows.
"""

from __future__ import annotations

import base64
import hashlib
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_ssh_private_key,
)

from tests.lab.threaded import ThreadedServer

if TYPE_CHECKING:
    from typing_extensions import Self

_IDENTITIES_ASKED, _IDENTITIES, _SIGN, _SIGNED, _FAILURE = 11, 12, 13, 14, 5
_PLAIN, _DEVICE = "ssh-ed25519", "sk-ssh-ed25519@openssh.com"
_APPLICATION = b"ssh:"
_TOUCHED = 1  # the flag of a user's presence


class TouchAgent(ThreadedServer):
    """Listens at `path`; a context manager. `touched` is how many signatures were asked for.

    Unless `has_user`, nobody is there to touch it.
    """

    def __init__(self, path: Path, private: bytes | None = None) -> None:
        self.path = path
        self.touched = 0
        self.has_user = True
        loaded = load_ssh_private_key(private, None) if private else None
        self._key = loaded or ed25519.Ed25519PrivateKey.generate()
        assert isinstance(self._key, ed25519.Ed25519PrivateKey)
        self._algorithm = _PLAIN if private else _DEVICE
        raw = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self._blob = _string(self._algorithm.encode()) + _string(raw)
        self._blob += b"" if private else _string(_APPLICATION)
        super().__init__(socket.socket(socket.AF_UNIX))

    @property
    def public(self) -> str:
        """As authorized_keys has it."""
        return f"{self._algorithm} {base64.b64encode(self._blob).decode()}"

    def __enter__(self) -> Self:
        self.listener.bind(str(self.path))
        self.listener.listen()
        return super().__enter__()

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self.path.unlink()

    def serve(self, client: socket.socket, _address: object) -> None:
        with client.makefile("rb") as stream:
            while head := stream.read(4):
                answer = self._answer(stream.read(struct.unpack(">I", head)[0]))
                client.sendall(_string(answer))

    def _answer(self, asked: bytes) -> bytes:
        if asked[0] == _IDENTITIES_ASKED:
            return struct.pack(">BI", _IDENTITIES, 1) + _string(self._blob) + _string(b"my key")
        if asked[0] != _SIGN:
            return bytes([_FAILURE])
        blob, rest = _take(asked[1:])
        data, _ = _take(rest)
        if blob != self._blob or not self.has_user:
            return bytes([_FAILURE])
        self.touched += 1
        return bytes([_SIGNED]) + _string(self._sign(data))

    def _sign(self, data: bytes) -> bytes:
        name = _string(self._algorithm.encode())
        if self._algorithm == _PLAIN:
            return name + _string(self._key.sign(data))
        seen = struct.pack(">BI", _TOUCHED, self.touched)
        digests = [hashlib.sha256(part).digest() for part in (_APPLICATION, data)]
        return name + _string(self._key.sign(digests[0] + seen + digests[1])) + seen


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _take(data: bytes) -> tuple[bytes, bytes]:
    size = struct.unpack(">I", data[:4])[0]
    return data[4 : 4 + size], data[4 + size :]
