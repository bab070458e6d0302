# SPDX-License-Identifier: GPL-2.0-or-later
"""Keys that sign manifests: files, files with a passphrase, and a real SSH agent."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mock_cloud.attest.manifest import ImageManifest
from mock_cloud.attest.validity import Validity, sign_manifest, verify_manifest
from mock_cloud.errors import ConfigError
from mock_cloud.steps.attest.known_good_sets import read_public_key
from mock_cloud.steps.sign.signers import read_signer

pytestmark = pytest.mark.skipif(
    not shutil.which("ssh-keygen"), reason="needs ssh-keygen (openssh-client)"
)

MANIFEST = ImageManifest("node-1", "x86_64", "now", (), ())
PHRASE = "correct horse"


def keygen(path: Path, phrase: str = "", kind: str = "ed25519") -> Path:
    command = ["ssh-keygen", "-q", "-t", kind, "-N", phrase, "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path


def check(key: Path, public: Path) -> None:
    envelope = sign_manifest(MANIFEST, Validity("node", 1, 1, 2), read_signer(key))
    assert verify_manifest(envelope, [read_public_key(public)]).manifest == MANIFEST


@pytest.fixture
def no_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A real ssh-agent, empty, that ends with the test."""
    said = subprocess.run(
        ["ssh-agent", "-s", "-a", str(tmp_path / "agent")], check=True, stdout=subprocess.PIPE
    ).stdout.decode()
    found = dict(re.findall(r"(SSH_\w+)=([^;]+);", said))
    monkeypatch.setenv("SSH_AUTH_SOCK", found["SSH_AUTH_SOCK"])
    yield
    os.kill(int(found["SSH_AGENT_PID"]), 15)


def add(key: Path, phrase: str, tmp_path: Path) -> None:
    """ssh-add, told the passphrase as OpenSSH allows for."""
    told = tmp_path / "askpass"
    told.write_text(f"#!/bin/sh\necho '{phrase}'\n")
    told.chmod(0o755)
    env = {**os.environ, "SSH_ASKPASS": str(told), "SSH_ASKPASS_REQUIRE": "force", "DISPLAY": "x"}
    subprocess.run(["ssh-add", "-q", str(key)], check=True, env=env, stdin=subprocess.DEVNULL)


def test_a_key_without_a_passphrase_signs(tmp_path: Path, no_agent: None) -> None:
    key = keygen(tmp_path / "key")
    check(key, key.with_suffix(".pub"))


def test_a_key_with_a_passphrase_is_used_through_the_agent(tmp_path: Path, agent: None) -> None:
    key = keygen(tmp_path / "key", PHRASE)
    with pytest.raises(ConfigError, match="has a passphrase") as caught:
        read_signer(key)  # nobody to ask here
    assert "ssh-add" in (caught.value.hint or "")
    add(key, PHRASE, tmp_path)
    check(key, key.with_suffix(".pub"))


def test_the_public_half_will_do_where_the_agent_has_the_other(tmp_path: Path, agent: None) -> None:
    key = keygen(tmp_path / "key")
    public = key.with_suffix(".pub")
    with pytest.raises(ConfigError, match="is a public key"):
        read_signer(public)
    add(key, "", tmp_path)
    key.unlink()
    check(public, public)


def test_another_kind_of_key_is_named(tmp_path: Path, no_agent: None) -> None:
    key = keygen(tmp_path / "key", kind="ecdsa")
    with pytest.raises(ConfigError, match="not an ed25519 key") as caught:
        read_signer(key)
    assert str(key) in caught.value.message


def test_another_kind_of_key_in_the_agent_is_named_before_a_build(
    tmp_path: Path, agent: None
) -> None:
    """And not after it, when the signature is not what anybody verifies."""
    key = keygen(tmp_path / "key", kind="ecdsa")
    add(key, "", tmp_path)
    key.unlink()
    with pytest.raises(ConfigError, match="not an ed25519 key but ecdsa-sha2-nistp256"):
        read_signer(key.with_suffix(".pub"))


def test_a_fido_key_is_refused_in_words(tmp_path: Path, no_agent: None) -> None:
    """As ssh-keygen -t ed25519-sk writes its public half (OpenSSH's PROTOCOL.u2f)."""
    name = b"sk-ssh-ed25519@openssh.com"
    parts = (name, bytes(32), b"ssh:")
    blob = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    public = tmp_path / "key.pub"
    public.write_text(f"{name.decode()} {base64.b64encode(blob).decode()} me\n")
    said = subprocess.run(["ssh-keygen", "-lf", str(public)], check=True, stdout=subprocess.PIPE)
    assert b"(ED25519-SK)" in said.stdout
    with pytest.raises(ConfigError, match="not an ed25519 key but sk-ssh-ed25519") as caught:
        read_signer(public)
    assert "FIDO" in (caught.value.hint or "")
