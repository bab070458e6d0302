# SPDX-License-Identifier: GPL-2.0-or-later
"""Keys that sign: a file, with or without a passphrase, the SSH agent's, or this user's own."""

from __future__ import annotations

import getpass
import sys
import time
from pathlib import Path
from typing import Final

from mock_cloud.attest.envelope import NeedsPassphrase, Signer
from mock_cloud.attest.validity import Validity
from mock_cloud.console import Console
from mock_cloud.errors import ConfigError, InputError
from mock_cloud.model import ED25519, HostKey
from mock_cloud.places import state_dir
from mock_cloud.provenance.statement import KEY_NAME
from mock_cloud.settings import Remote
from mock_cloud.sshkeys import find_public, make_key_pair
from mock_cloud.steps.attest.known_good_sets import read_file
from mock_cloud.steps.attest.seen_manifests import SeenManifests
from mock_cloud.wire.files import create_file, replace_file

_TRIES: Final = 3


def read_signer(path: Path) -> Signer:
    """The signer for `path`: a private ed25519 key, or a public one that the SSH agent holds.

    A private key with a passphrase is used through the agent where that holds it; else the
    passphrase is asked for on the terminal. ConfigError.
    """
    data = read_file(path, "the signing key")
    public = find_public(path)
    if public is not None:
        _check_kind(path, public)
    if _is_public(data):
        if public is None or not _is_held(public):
            raise ConfigError(
                f"{path} is a public key, and the SSH agent does not hold its private half",
                hint="name the private key's file, or run ssh-add",
            )
        return _of_agent(public)
    try:
        return Signer.from_private(data)
    except NeedsPassphrase:
        if public is not None and _is_held(public):
            return _of_agent(public)
        return _asked(path, data)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}", hint=error.hint) from error


def _check_kind(path: Path, public: HostKey) -> None:
    """An agent signs with keys of any kind, which nobody could verify here. ConfigError."""
    if public.algorithm != ED25519:
        is_fido = public.algorithm.startswith("sk-")
        raise ConfigError(
            f"{path}: the signing key is not an ed25519 key but {public.algorithm}",
            hint="a FIDO key signs in a form of its own, which in-toto's verifiers do not know:"
            " name an ed25519 key, of a file or in the SSH agent"
            if is_fido
            else "ssh-keygen -t ed25519 makes one",
        )


def _is_public(data: bytes) -> bool:
    try:
        HostKey.parse(data.decode())
    except ValueError:
        return False
    return not data.startswith(b"-----")


def next_validity(
    seen: SeenManifests, signer: Signer, image: str, arch: str, lifetime_s: float
) -> Validity:
    """From now on, with a serial above all that were seen here of this signer's for the image.

    That is the time in seconds, so signers need share nothing but a clock.
    """
    now = int(time.time())
    seen.note_time(now)
    newest = seen.find_serial(signer.public.fingerprint, image, arch)
    return Validity(image, max(now, newest + 1), now, now + max(1, int(lifetime_s)))


def tell_threshold(remote: Remote, console: Console) -> None:
    """Say so, if what was signed by one key is not enough for `remote`."""
    threshold = remote.attest.manifest_threshold
    if threshold > 1:
        console.warning(
            f"remote {remote.name} wants {threshold} signatures, and this is the first:"
            " mock-cloud known-good sign adds one"
        )


def write_whole(path: Path, data: bytes) -> None:
    """Write the file, whole or not at all. InputError."""
    try:
        replace_file(path, data)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error


def _is_held(public: HostKey) -> bool:
    from mock_cloud.remote.clientkeys import agent_holds  # SSH is large, and most keys are files

    return agent_holds(public)


def _of_agent(public: HostKey) -> Signer:
    from mock_cloud.remote.clientkeys import sign_with_agent

    return Signer(public, lambda data: sign_with_agent(public, data))


def _asked(path: Path, data: bytes) -> Signer:
    for left in reversed(range(_TRIES)):
        if not (sys.stdin and sys.stdin.isatty()):
            break
        try:
            word = getpass.getpass(f"Passphrase for {path}: ")
        except EOFError:
            break
        try:
            return Signer.from_private(data, word.encode())
        except ConfigError as error:
            if not left:
                raise ConfigError(f"{path}: {error.message}") from error
    raise ConfigError(
        f"{path} has a passphrase, and the SSH agent does not hold it", hint=f"run ssh-add {path}"
    )


def find_signer(remote: Remote, console: Console) -> Signer:
    """What signs provenance of builds of `remote`: the key that it names, else this user's own.

    The user is told where the latter is when it is made. ConfigError.
    """
    if remote.provenance.key is not None:
        return read_signer(remote.provenance.key)
    path = state_dir() / KEY_NAME
    public = path.with_name(f"{KEY_NAME}.pub")
    try:
        is_new = not path.exists() and create_file(path, make_key_pair().private.reveal())
        signer = read_signer(path)
        if not public.exists():  # also where the command that made the key was killed
            replace_file(public, f"{signer.public} mock-cloud\n".encode())
    except OSError as error:
        raise ConfigError(f"cannot make the key {path}: {error.strerror}") from error
    if is_new:
        console.info(f"made the key that signs what is built, {path}; others verify with {public}")
    return signer
