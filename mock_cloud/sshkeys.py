# SPDX-License-Identifier: GPL-2.0-or-later
"""Making and reading ed25519 SSH key pairs, for bootstrap host keys and client keys."""

from __future__ import annotations

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

from mock_cloud.model import HostKey, KeyPair, Secret


def make_key_pair() -> KeyPair:
    """A fresh ed25519 pair; the private half is an unencrypted OpenSSH private key file."""
    return _pair(Ed25519PrivateKey.generate())


def parse_key_pair(private: bytes) -> KeyPair:
    """The pair of an unencrypted OpenSSH ed25519 private key file. ValueError."""
    try:
        key = load_ssh_private_key(private, password=None)
    except (TypeError, UnsupportedAlgorithm) as error:
        raise ValueError("not an unencrypted OpenSSH private key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("not an ed25519 key")
    return _pair(key)


def _pair(key: Ed25519PrivateKey) -> KeyPair:
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return KeyPair(Secret(private), HostKey.parse(public.decode()))
