# SPDX-License-Identifier: GPL-2.0-or-later
"""The words everything stands on: secrets stay secret, proofs can't be forged, keys parse."""

from __future__ import annotations

import copy
import pickle

import pytest

from mock_cloud.errors import EXIT_INFRASTRUCTURE, EXIT_REFUSED, HostKeyMismatch, TransportError
from mock_cloud.model import HostKey, Secret, TrustedNode
from mock_cloud.process import CommandFailed, run
from mock_cloud.sshkeys import make_key_pair


def test_a_secret_shows_itself_to_nobody() -> None:
    secret = Secret(b"hunter2")
    assert secret.reveal() == b"hunter2"
    for shown in (repr(secret), str(secret), f"{secret}", f"{secret!r:>30}", f"{[secret]}"):
        assert "hunter2" not in shown


@pytest.mark.parametrize("serialise", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_secret_is_never_serialised(serialise: object) -> None:
    with pytest.raises(TypeError, match="never serialised"):
        serialise(Secret(b"hunter2"))  # type: ignore[operator]


def test_a_key_pair_reveals_no_private_half() -> None:
    pair = make_key_pair()
    assert b"PRIVATE KEY" in pair.private.reveal()
    assert "PRIVATE" not in repr(pair)


@pytest.mark.parametrize("seal", [None, object(), "seal"])
def test_a_proof_is_not_made_by_hand(seal: object) -> None:
    key = make_key_pair().public
    with pytest.raises(TypeError, match="attest"):
        TrustedNode(key, "0" * 64, 1, {}, seal)


def test_a_public_key_line_and_its_fingerprint() -> None:
    # The key and fingerprint of an ssh-keygen run: ssh-keygen -lf agrees.
    line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEd2Wj9XVuLTbZxkQHfNnRWJLXxJiJ3nK6iDSQpDAoRu a b"
    key = HostKey.parse(line)
    assert str(key) == line.removesuffix(" a b")
    assert HostKey.parse(str(key)) == key
    assert key.fingerprint.startswith("SHA256:")
    assert len(key.fingerprint) == len("SHA256:") + 43


@pytest.mark.parametrize("line", ["", "ssh-ed25519", "ssh-ed25519 not*base64", "\0 \0"])
def test_what_is_no_public_key_line_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        HostKey.parse(line)


def test_a_wrong_host_key_is_a_refusal_and_never_retried() -> None:
    error = HostKeyMismatch("shown another")
    assert (error.exit_code, error.retryable) == (EXIT_REFUSED, False)
    assert (TransportError("lost").exit_code, TransportError("lost").retryable) == (
        EXIT_INFRASTRUCTURE,
        True,
    )


def test_a_failed_command_can_be_pasted_into_a_shell() -> None:
    with pytest.raises(CommandFailed) as caught:
        run(["sh", "-c", "echo one; echo 'it broke' >&2; exit 3"], timeout_s=10)
    assert caught.value.status == "exit status 3"
    assert "sh -c 'echo one; echo '\"'\"'it broke'" in caught.value.message
    assert caught.value.message.endswith("it broke")


def test_a_command_past_its_deadline_is_killed() -> None:
    with pytest.raises(CommandFailed, match=r"no end within 0\.2 s"):
        run(["sleep", "30"], timeout_s=0.2)


def test_a_missing_program_is_said_so() -> None:
    with pytest.raises(CommandFailed, match="cannot start"):
        run(["/nonexistent/program"], timeout_s=1)


def test_a_child_has_no_input_and_few_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    assert run(["cat"], timeout_s=10) == b""
    assert b"hunter2" not in run(["env"], timeout_s=10)
