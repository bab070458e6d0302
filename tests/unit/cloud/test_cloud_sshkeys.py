# SPDX-License-Identifier: GPL-2.0-or-later
import shutil
import subprocess
from pathlib import Path

import pytest

from mock_cloud.model import HostKey
from mock_cloud.sshkeys import make_key_pair


def test_pairs_differ_and_hide_their_private_half() -> None:
    one, two = make_key_pair(), make_key_pair()
    assert one.public != two.public
    assert "PRIVATE" not in repr(one) and "PRIVATE" in one.private.reveal().decode()


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen")
def test_openssh_agrees(tmp_path: Path) -> None:
    pair = make_key_pair()
    path = tmp_path / "key"
    path.touch(mode=0o600)
    path.write_bytes(pair.private.reveal())
    public = subprocess.run(
        ["ssh-keygen", "-y", "-f", path], check=True, capture_output=True, text=True
    ).stdout
    assert HostKey.parse(public) == pair.public
