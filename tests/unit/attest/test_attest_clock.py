# SPDX-License-Identifier: GPL-2.0-or-later
"""A controller whose clock is behind: signatures are of the future then, and that is said."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from mock_cloud.signed.header import parse_signed_header
from mock_cloud.signed.keys import PackageKeys, UnsignedError
from tests.unit.attest.attest_builder import blob


def gpg(home: Path, at: datetime, *words: str, data: bytes = b"") -> bytes:
    """A real GnuPG, at another time."""
    command = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--passphrase", ""]
    command += ["--faked-system-time", f"{at:%Y%m%dT%H%M%S}!", "--pinentry-mode", "loopback"]
    done = subprocess.run(
        [*command, *words], input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=True
    )
    return done.stdout


@pytest.mark.skipif(shutil.which("gpg") is None, reason="needs gpg")
@pytest.mark.parametrize("days", [2, -2])
def test_a_signature_of_the_future_says_what_the_clock_says(tmp_path: Path, days: int) -> None:
    home = tmp_path / "gpg"
    home.mkdir(mode=0o700)
    at = datetime.now(timezone.utc) + timedelta(days=days)
    try:
        gpg(home, at, "--quick-generate-key", "x", "ed25519", "sign")
        keys = PackageKeys.parse([gpg(home, at, "--armor", "--export")])
        header = parse_signed_header(blob("tools"))
        packet = gpg(home, at, "--detach-sign", data=header.signed)
    finally:
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False)
    header = replace(header, signatures=(packet,))
    if days < 0:
        keys.verify(header)
        return
    with pytest.raises(UnsignedError, match=f"signed {at:%Y-%m-%d %H:}.*this machine's clock says"):
        keys.verify(header)
