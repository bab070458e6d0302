# SPDX-License-Identifier: GPL-2.0-or-later
"""The key that signs what is built: made once, whoever is first, and told of."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mock_cloud.cli.verify import find_verify_keys, read_verify_keys
from mock_cloud.console import Console
from mock_cloud.errors import ConfigError
from mock_cloud.provenance.statement import KEY_NAME
from mock_cloud.settings import AttestSettings, ProvenanceSettings, Remote
from mock_cloud.steps.sign.signers import find_signer
from tests.waiting import wait_for

FINDER = """
from mock_cloud.console import Console
from mock_cloud.settings import AttestSettings, Remote
from mock_cloud.steps.sign.signers import find_signer
remote = Remote("r", "local", ("x86_64",), AttestSettings(None, (), ()))
print(find_signer(remote, Console()).public.fingerprint)
"""


def remote(key: Path | None = None) -> Remote:
    settings = ProvenanceSettings(key=key)
    return Remote("r", "local", ("x86_64",), AttestSettings(None, (), ()), provenance=settings)


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state/mock-cloud"


def test_it_is_made_once_and_told_of_once(state: Path) -> None:
    said = io.StringIO()
    first = find_signer(remote(), Console(stream=said))
    assert str(state / KEY_NAME) in said.getvalue()
    said = io.StringIO()
    again = find_signer(remote(), Console(stream=said))
    assert said.getvalue() == ""
    assert first.public == again.public
    assert (state / KEY_NAME).stat().st_mode & 0o777 == 0o600
    assert find_verify_keys(None) == [first.public]
    assert sorted(path.name for path in state.iterdir()) == [KEY_NAME, f"{KEY_NAME}.pub"]


def test_ssh_keygen_reads_it(state: Path) -> None:
    signer = find_signer(remote(), Console(stream=io.StringIO()))
    for name in (KEY_NAME, f"{KEY_NAME}.pub"):
        shown = subprocess.check_output(["ssh-keygen", "-l", "-f", str(state / name)], text=True)
        assert signer.public.fingerprint in shown


def test_a_public_half_that_is_missing_is_written(state: Path) -> None:
    signer = find_signer(remote(), Console(stream=io.StringIO()))
    (state / f"{KEY_NAME}.pub").unlink()
    find_signer(remote(), Console(stream=io.StringIO()))
    assert read_verify_keys(state / f"{KEY_NAME}.pub") == [signer.public]


def test_commands_that_are_first_at_once_have_one_key(state: Path) -> None:
    argv = [sys.executable, "-c", FINDER]
    started = [subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
               for _ in range(4)]  # fmt: skip
    ended = [one.communicate() for one in started]
    assert len({out for out, _ in ended}) == 1 and ended[0][0].startswith("SHA256:")
    assert sum("made the key" in err for _, err in ended) == 1
    assert sorted(path.name for path in state.iterdir()) == [KEY_NAME, f"{KEY_NAME}.pub"]


def test_an_agents_key_signs(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, socket = tmp_path / "key", tmp_path / "agent"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    try:
        environ = {**os.environ, "SSH_AUTH_SOCK": str(socket)}
        add = ["ssh-add", "-q", str(key)]
        wait_for(lambda: subprocess.run(add, env=environ, check=False,
                                        stderr=subprocess.DEVNULL).returncode == 0)  # fmt: skip
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        key.unlink()
        signer = find_signer(remote(key.with_name("key.pub")), Console(stream=io.StringIO()))
        assert len(signer.sign(b"what was built")) == 64
        assert not state.exists()
    finally:
        agent.terminate()
        agent.wait()


def test_a_key_that_is_named_and_missing_is_an_error(state: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nokey"):
        find_signer(remote(tmp_path / "nokey"), Console(stream=io.StringIO()))
