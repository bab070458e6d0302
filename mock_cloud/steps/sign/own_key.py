# SPDX-License-Identifier: GPL-2.0-or-later
"""This user's own key, which signs provenance: made when it is first needed."""

from __future__ import annotations

import os
from pathlib import Path

from mock_cloud.attest.envelope import Signer
from mock_cloud.console import Console
from mock_cloud.errors import ConfigError
from mock_cloud.places import state_dir
from mock_cloud.provenance.statement import KEY_NAME
from mock_cloud.settings import Remote
from mock_cloud.sshkeys import make_key_pair
from mock_cloud.steps.sign.signers import read_signer
from mock_cloud.wire.files import replace_file


def find_signer(remote: Remote, console: Console) -> Signer:
    """What signs provenance of builds of `remote`: the key that it names, else this user's own.

    The user is told where the latter is when it is made. ConfigError.
    """
    if remote.provenance.key is not None:
        return read_signer(remote.provenance.key)
    path = state_dir() / KEY_NAME
    public = path.with_name(f"{KEY_NAME}.pub")
    try:
        is_new = not path.exists() and _make(path)
        signer = read_signer(path)
        if not public.exists():  # also where the command that made the key was killed
            replace_file(public, f"{signer.public} mock-cloud\n".encode())
    except OSError as error:
        raise ConfigError(f"cannot make the key {path}: {error.strerror}") from error
    if is_new:
        console.info(f"made the key that signs what is built, {path}; others verify with {public}")
    return signer


def _make(path: Path) -> bool:
    """Make the private key. False if another command made one meanwhile: that one counts."""
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    replace_file(new, make_key_pair().private.reveal(), 0o600)
    try:
        os.link(new, path)
    except FileExistsError:
        return False
    finally:
        new.unlink()
    return True
