# SPDX-License-Identifier: GPL-2.0-or-later
"""Our reader of SSH signatures against ssh-keygen's own."""

from __future__ import annotations

import base64
import re
import subprocess
from pathlib import Path

import pytest

from mock_cloud.model import HostKey
from mock_cloud.signed.sshsig import BadSignature, verify_sshsig
from mock_cloud.sshkeys import make_key_pair

SPACE = "results@mock-cloud"
TEXT = b"what was signed\n"


def sign(place: Path, *words: str, data: bytes = TEXT, space: str = SPACE) -> tuple[str, HostKey]:
    key = place / "key"
    if not key.exists():
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)]
        subprocess.run(argv, check=True)
    argv = ["ssh-keygen", "-Y", "sign", "-n", space, "-f", str(key), *words]
    made = subprocess.run(argv, input=data, check=True, capture_output=True)
    return made.stdout.decode(), HostKey.parse((place / "key.pub").read_text())


@pytest.mark.parametrize("words", [(), ("-O", "hashalg=sha256")])
def test_ssh_keygens_signatures_are_accepted(tmp_path: Path, words: tuple[str, ...]) -> None:
    signature, key = sign(tmp_path, *words)
    verify_sshsig(signature, TEXT, key, SPACE)


def test_what_else_was_signed_is_refused(tmp_path: Path) -> None:
    signature, key = sign(tmp_path)
    for message, by, space in (
        (TEXT + b" ", key, SPACE),
        (TEXT, make_key_pair().public, SPACE),
        (TEXT, key, "git"),
        (TEXT, key, f"{SPACE}x"),
        (TEXT, HostKey("ssh-ed25519", b"\0\0\0\x0bssh-ed25519"), SPACE),
    ):
        with pytest.raises(BadSignature):
            verify_sshsig(signature, message, by, space)


def test_each_changed_byte_is_refused(tmp_path: Path) -> None:
    signature, key = sign(tmp_path)
    blob = base64.b64decode(re.sub(r"-----.*-----", "", signature))
    for at in range(len(blob)):
        spoiled = bytearray(blob)
        spoiled[at] ^= 1
        text = base64.b64encode(spoiled).decode()
        with pytest.raises(BadSignature):
            verify_sshsig(_armour(text), TEXT, key, SPACE)
    for size in range(len(blob)):
        with pytest.raises(BadSignature):
            verify_sshsig(_armour(base64.b64encode(blob[:size]).decode()), TEXT, key, SPACE)
    with pytest.raises(BadSignature):
        verify_sshsig(_armour(base64.b64encode(blob + b"x").decode()), TEXT, key, SPACE)


@pytest.mark.parametrize("kind", ["rsa -b 2048", "ecdsa"])
def test_keys_of_other_kinds_are_refused(tmp_path: Path, kind: str) -> None:
    argv = ["ssh-keygen", "-q", "-t", *kind.split(), "-N", "", "-f", str(tmp_path / "key")]
    subprocess.run(argv, check=True)
    signature, key = sign(tmp_path)
    with pytest.raises(BadSignature):
        verify_sshsig(signature, TEXT, key, SPACE)


@pytest.mark.parametrize("text", ["", "x", "-----BEGIN SSH SIGNATURE-----\n" * 9, "\0" * 100])
def test_what_is_no_signature_is_refused(text: str) -> None:
    with pytest.raises(BadSignature):
        verify_sshsig(text, TEXT, make_key_pair().public, SPACE)


def _armour(text: str) -> str:
    return f"-----BEGIN SSH SIGNATURE-----\n{text}\n-----END SSH SIGNATURE-----\n"
