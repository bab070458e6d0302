# SPDX-License-Identifier: GPL-2.0-or-later
"""Keys that this side authenticates with: a lease's own, or the user's files and SSH agent."""

from __future__ import annotations

import contextlib
import io
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import paramiko
import paramiko.agent

from mock_cloud.errors import ConfigError
from mock_cloud.model import ClientKey, HostKey, Secret, UserKeys
from mock_cloud.remote.certified import find_certified
from mock_cloud.sshkeys import find_public
from mock_cloud.wire.dataclass import dataclass

_AGENT_TIMEOUT_S: Final = 60.0
"""An agent may ask the user before it signs (ssh-add -c)."""


@dataclass(frozen=True, slots=True)
class OfferedKey:
    """One key that can sign, and how messages name it."""

    name: str
    key: paramiko.PKey


class _Agent(paramiko.agent.AgentSSH):  # type: ignore[misc] # paramiko has no types
    """The user's SSH agent. Unlike paramiko's own class it has a time limit."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_AGENT_TIMEOUT_S)
        try:
            self._socket.connect(path)
            self._connect(self._socket)
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        self._socket.close()


@contextlib.contextmanager
def opened_keys(source: ClientKey) -> Iterator[tuple[OfferedKey, ...]]:
    """The keys to offer, in order; those of an agent can sign while the context lasts.

    ConfigError if there is none that can be used; it says why for each.
    """
    if isinstance(source, Secret):
        yield (OfferedKey("our key", _load_lease_key(source)),)
        return
    with _agent_keys(source.agent) as held:
        keys, unusable = _user_keys(source, held)
        if not keys:
            why = "; ".join(unusable) or "no key file is there, and no SSH agent holds one"
            raise ConfigError(
                f"there is no SSH key to log in with: {why}",
                hint="run ssh-add, or name a key without a passphrase as identity",
            )
        if source.certifies:
            name, signer = keys[0].name, keys[0].key
            certified = find_certified(name, signer, source.certifies)
            keys = (OfferedKey(f"a certificate by {name}", certified),)
        yield keys


def _user_keys(
    source: UserKeys, held: tuple[paramiko.AgentKey, ...]
) -> tuple[tuple[OfferedKey, ...], list[str]]:
    by_blob = {key.asbytes(): key for key in held}
    keys: dict[bytes, OfferedKey] = {}
    unusable = []
    for name in source.files:
        public = find_public(Path(name))
        try:
            key = by_blob.get(public.blob) if public else None
            key = key or paramiko.PKey.from_path(name)
        except TypeError:  # cryptography's, for a passphrase that was not given
            unusable.append(f"{name} has a passphrase and is not in the SSH agent")
        except (OSError, ValueError, paramiko.SSHException, paramiko.UnknownKeyType) as error:
            what = error.strerror if isinstance(error, OSError) else "no private key"
            unusable.append(f"{name}: {what}")
        else:
            keys.setdefault(key.asbytes(), OfferedKey(name, key))
    for agent_key in held if source.whole_agent else ():
        name = f"{agent_key.get_name()} of the SSH agent"
        keys.setdefault(agent_key.asbytes(), OfferedKey(name, agent_key))
    return tuple(keys.values()), unusable


def agent_holds(public: HostKey) -> bool:
    """Whether the user's SSH agent can sign with this key."""
    with _agent_keys() as held:
        return any(key.asbytes() == public.blob for key in held)


def sign_with_agent(public: HostKey, data: bytes) -> bytes:
    """The ed25519 signature (64 bytes) that the user's SSH agent makes. ConfigError.

    An agent answers with an RFC 8709 signature blob: the algorithm's name, then these bytes.
    """
    try:
        with _agent_keys() as held:
            key = next(one for one in held if one.asbytes() == public.blob)
            answer = paramiko.Message(key.sign_ssh_data(data))
            if answer.get_text() == public.algorithm:
                return bytes(answer.get_binary())
            why = "it answered with another algorithm"
    except StopIteration:
        why = "it does not hold the key any more"
    except (OSError, paramiko.SSHException) as error:
        why = str(error)
    raise ConfigError(f"the SSH agent did not sign with {public.fingerprint}: {why}")


@contextlib.contextmanager
def _agent_keys(path: str | None = None) -> Iterator[tuple[paramiko.AgentKey, ...]]:
    path = os.environ.get("SSH_AUTH_SOCK", "") if path is None else path
    agent = None
    if path:
        with contextlib.suppress(OSError, paramiko.SSHException):  # a stale path is as good as none
            agent = _Agent(path)
    try:
        yield agent.get_keys() if agent else ()
    finally:
        if agent:
            agent.close()


def _load_lease_key(secret: Secret) -> paramiko.PKey:
    try:
        return paramiko.Ed25519Key.from_private_key(io.StringIO(secret.reveal().decode()))
    except (paramiko.SSHException, ValueError) as error:
        raise ConfigError("the client key is not an unencrypted OpenSSH ed25519 key") from error
