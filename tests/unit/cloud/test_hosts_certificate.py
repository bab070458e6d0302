# SPDX-License-Identifier: GPL-2.0-or-later
"""Host certificates, made by ssh-keygen: what is refused, and what is then pinned."""

from __future__ import annotations

import base64
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from mock_cloud.cloud.hosts.certificate import verify_host_certificate
from mock_cloud.errors import HostKeyMismatch
from mock_cloud.model import HostKey

KEYGEN = shutil.which("ssh-keygen")
pytestmark = pytest.mark.skipif(KEYGEN is None, reason="needs ssh-keygen (openssh-client)")
NAMES = {"alpha", "10.0.0.5"}


def keygen(*words: str | Path) -> None:
    subprocess.run([KEYGEN or "", "-q", *map(str, words)], check=True, capture_output=True)


def make_key(path: Path, kind: str = "ed25519", *words: str) -> HostKey:
    keygen("-t", kind, *words, "-N", "", "-f", path)
    return HostKey.parse(path.with_suffix(".pub").read_text())


class Authority:
    """A CA and one host's key, in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.public = make_key(directory / "ca")
        self.host = make_key(directory / "host")

    def certify(self, *words: str, ca: str = "ca", host: str = "host") -> str:
        """The certificate in base64, made with ssh-keygen's options `words`."""
        keygen("-s", self.directory / ca, "-I", "id", *words, self.directory / f"{host}.pub")
        return (self.directory / f"{host}-cert.pub").read_text().split()[1]


GOOD = ("-h", "-n", "beta,alpha", "-V", "-1m:+1h")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Each test has its own names for what it adds."""
    return Authority(tmp_path_factory.mktemp("authority"))


def refused(encoded: str, ca: HostKey, now_unix: float | None = None) -> str:
    with pytest.raises(HostKeyMismatch) as caught:
        verify_host_certificate(encoded, ca, NAMES, now_unix=now_unix)
    assert caught.value.exit_code == 77 and not caught.value.retryable
    return caught.value.message


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("-n", "alpha", "-V", "-1m:+1h"), "for users"),
        (("-h", "-n", "beta", "-V", "-1m:+1h"), "it is for beta, not for 10.0.0.5 or alpha"),
        (("-h", "-n", "ALPHA", "-V", "-1m:+1h"), "for ALPHA"),
        (("-h", "-n", "*", "-V", "-1m:+1h"), "for [*]"),
        (("-h", "-V", "-1m:+1h"), "for nobody"),
        (("-h", "-n", "alpha", "-V", "-2h:-1h"), "expired, or not valid yet"),
        (("-h", "-n", "alpha", "-V", "+1h:+2h"), "expired, or not valid yet"),
        (("-h", "-n", "alpha", "-O", "critical:force@x=1", "-V", "-1m:+1h"), "critical option"),
    ],
)
def test_what_does_not_hold_is_refused(
    authority: Authority, words: tuple[str, ...], why: str
) -> None:
    message = refused(authority.certify(*words), authority.public)
    assert why.replace("[*]", "*") in message


def test_another_ca_is_refused(authority: Authority) -> None:
    other = make_key(authority.directory / "other")
    assert "not by the CA" in refused(authority.certify(*GOOD, ca="other"), authority.public)
    assert "not by the CA" in refused(authority.certify(*GOOD), other)


def test_a_bare_key_is_refused(authority: Authority) -> None:
    bare = base64.b64encode(authority.host.blob).decode()
    assert "a bare key" in refused(bare, authority.host)


@pytest.mark.parametrize("encoded", ["", "AAAA", "no base64!", "A" * 400])
def test_rubbish_is_refused(authority: Authority, encoded: str) -> None:
    assert "cannot be read" in refused(encoded, authority.public)


def test_every_changed_byte_is_refused(authority: Authority) -> None:
    good = base64.b64decode(authority.certify(*GOOD))
    for place in range(0, len(good), 7):
        bad = bytearray(good)
        bad[place] ^= 1
        refused(base64.b64encode(bad).decode(), authority.public)
    refused(base64.b64encode(good[:-1]).decode(), authority.public)


def test_sha1_is_no_signature(authority: Authority) -> None:
    """`ssh-keygen -t ssh-rsa` still signs so."""
    ca = make_key(authority.directory / "rsa-ca", "rsa", "-b", "2048")
    weak = authority.certify(*GOOD, "-t", "ssh-rsa", ca="rsa-ca")
    assert "weak" in refused(weak, ca)
    strong = authority.certify(*GOOD, "-t", "rsa-sha2-256", ca="rsa-ca")
    assert verify_host_certificate(strong, ca, NAMES) == authority.host


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_the_certified_key_is_what_is_pinned(authority: Authority, kind: str) -> None:
    host = make_key(authority.directory / kind, kind)
    assert verify_host_certificate(
        authority.certify(*GOOD, host=kind), authority.public, NAMES
    ) == (host)


def test_valid_for_ever(authority: Authority) -> None:
    found = authority.certify("-h", "-n", "10.0.0.5")
    far = time.time() + 9e9
    assert verify_host_certificate(found, authority.public, NAMES, now_unix=far) == authority.host
