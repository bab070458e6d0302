# SPDX-License-Identifier: GPL-2.0-or-later
"""Making ed25519 SSH key pairs, for bootstrap host keys and client keys; reading public ones."""

from __future__ import annotations

import contextlib
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from mock_cloud.model import HostKey, KeyPair, Secret


def make_key_pair() -> KeyPair:
    """A fresh ed25519 pair; the private half is an unencrypted OpenSSH private key file."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return KeyPair(Secret(private), HostKey.parse(public.decode()))


def find_public(path: Path) -> HostKey | None:
    """The public half beside a private key, or the file itself if it is one."""
    for place in (path, path.with_name(f"{path.name}.pub")):
        with contextlib.suppress(OSError, ValueError):
            return HostKey.parse(place.read_text(encoding="utf-8", errors="replace"))
    return None
