# SPDX-License-Identifier: GPL-2.0-or-later
"""One signature of the user's key for all logins of a command: a certificate of a key of its own.

The format is OpenSSH's (PROTOCOL.certkeys). A machine takes it whose authorized_keys has the user's
key with ``cert-authority``; the private half is this process's alone and ends with it.
"""

from __future__ import annotations

import base64
import io
import os
import struct
import threading
import time
from typing import Final

import paramiko

from mock_cloud.errors import ConfigError
from mock_cloud.sshkeys import make_key_pair

_LIFE_S: Final = 12 * 3600
_SKEW_S: Final = 300
"""A machine's clock may be that late."""
_TYPE: Final = "ssh-ed25519-cert-v01@openssh.com"
_USER: Final = 1
_ID: Final = "mock-cloud"
"""What the machine's sshd logs of each login, beside the fingerprint of the user's key."""
_EXTENSIONS: Final = ("permit-port-forwarding",)
"""Repositories come that way; no terminal, no agent, no X11."""

_lock = threading.Lock()
_made: dict[tuple[bytes, str], tuple[float, paramiko.PKey]] = {}


def find_certified(name: str, signer: paramiko.PKey, login: str) -> paramiko.PKey:
    """A key that logs in as `login` by a certificate which `signer` signs once in twelve hours.

    `name` is how messages call the signer. ConfigError if it does not sign.
    """
    with _lock:
        now = time.time()
        until, key = _made.get((signer.asbytes(), login), (0.0, None))
        if key is None or until <= now:
            key = _make(name, signer, login, int(now))
            _made[signer.asbytes(), login] = (now + _LIFE_S - _SKEW_S, key)
        return key


def _make(name: str, signer: paramiko.PKey, login: str, now_unix: int) -> paramiko.PKey:
    pair = make_key_pair()
    public = paramiko.Message(pair.public.blob)
    public.get_text()
    body = _string(_TYPE) + _string(os.urandom(32)) + _string(public.get_binary())
    body += struct.pack(">QI", 0, _USER) + _string(_ID) + _string(_string(login))
    body += struct.pack(">QQ", now_unix - _SKEW_S, now_unix + _LIFE_S)
    body += _string(b"") + _string(b"".join(_string(one) + _string(b"") for one in _EXTENSIONS))
    body += _string(b"") + _string(signer.asbytes())
    algorithm = "rsa-sha2-512" if signer.get_name() == "ssh-rsa" else None
    try:
        signature = signer.sign_ssh_data(body, algorithm)
    except (OSError, paramiko.SSHException) as error:
        raise ConfigError(
            f"{name} signed no certificate to log in with: {error}",
            hint="touch the key while it blinks, or take certificate from the remote's file",
        ) from error
    whole = body + _string(
        bytes(signature.asbytes() if hasattr(signature, "asbytes") else signature)
    )
    key = paramiko.Ed25519Key.from_private_key(io.StringIO(pair.private.reveal().decode()))
    key.load_certificate(f"{_TYPE} {base64.b64encode(whole).decode()}")
    return key


def _string(data: str | bytes) -> bytes:
    raw = data.encode() if isinstance(data, str) else data
    return struct.pack(">I", len(raw)) + raw
