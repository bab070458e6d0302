# SPDX-License-Identifier: GPL-2.0-or-later
"""Owners of lent machines sign what was built there, with ssh-keygen, or nothing is published."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mock_cloud.sshkeys import make_key_pair
from mock_cloud.wire.owner_statement import OWNER_AGENT, OWNER_KEY
from tests.integration.conftest import User, new_user
from tests.integration.faults import check_failure
from tests.lab.layout import Lab, locked
from tests.lab.volunteers import Volunteers, build
from tests.waiting import wait_for

pytestmark = [pytest.mark.lab, pytest.mark.slow]

OWNER = make_key_pair()


@pytest.fixture(scope="module")
def volunteers(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Volunteers]:
    """Alpha's owner has a key there, beta's has none."""
    with locked(lab):
        build(lab)
    place = tmp_path_factory.mktemp("owners")
    with Volunteers(lab, place, owners={"alpha": OWNER}) as made:
        yield made


@pytest.fixture
def user(volunteers: Volunteers, tmp_path: Path, cache: Path) -> Iterator[User]:
    place = tmp_path / "user"
    config = volunteers.write_config(place / "etc")
    for remote, one, key in (
        ("signed", volunteers.alpha, OWNER),
        ("stranger", volunteers.alpha, make_key_pair()),
        ("unsigned", volunteers.beta, OWNER),
    ):
        more = f'identity = "{volunteers.user_key}"\nowner_key = "{key.public}"'
        volunteers.write_remote(config, remote, one.table(more=more))
    made = new_user(place, config, cache)
    yield made
    made.release()


@pytest.fixture
def agent(volunteers: Volunteers) -> Iterator[None]:
    """On gate only the public half lies; an SSH agent of the owner's has the key."""
    gate = volunteers.gate
    place = gate.root / "etc/mock-cloud"
    place.mkdir()
    (place / "owner-key.pub").write_text(f"{OWNER.public}\n")
    (gate.root / OWNER_AGENT.lstrip("/")).parent.mkdir(mode=0o700)
    inside = ["nsenter", f"--target={gate.machine.init_pid}", "--all", "--wd=/", "--"]
    environ = {"PATH": "/usr/bin:/bin", "SSH_AUTH_SOCK": OWNER_AGENT}  # as a service's
    argv = [*inside, "/usr/bin/ssh-agent", "-D", "-a", OWNER_AGENT]
    with subprocess.Popen(argv, env=environ, stdout=subprocess.DEVNULL) as running:
        try:
            wait_for((gate.root / OWNER_AGENT.lstrip("/")).is_socket)
            subprocess.run(
                [*inside, "/usr/bin/ssh-add", "-"], env=environ, input=OWNER.private.reveal(),
                check=True, capture_output=True,
            )  # fmt: skip
            yield
        finally:  # nsenter ends with the agent, which is its child in the machine's namespace
            children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text()
            os.kill(int(children), signal.SIGTERM)


def test_the_owners_agent_signs_and_no_private_key_lies_on_the_machine(
    user: User, volunteers: Volunteers, lab: Lab, agent: None, plain_srpm: Path, tmp_path: Path
) -> None:
    """The manifest knows of the agent's process: it was made while that ran."""
    remote, signed = user.config.path / "remotes.d/agent.toml", tmp_path / "gate.manifest"
    more = f'identity = "{volunteers.user_key}"\nowner_key = "{OWNER.public}"'
    volunteers.write_remote(user.config, "agent", volunteers.gate.table(more=more))
    text = remote.read_text()
    remote.write_text(text.replace(f'manifest = "{volunteers.gate.manifest}"\n', ""))
    user.cloud("known-good", "make", "--remote", "agent", "--configdir", user.config.path,
               "--sign-key", lab.keys / "manifest", "--output", signed,
               "--accept-unverified-base").expect()  # fmt: skip
    remote.write_text(text.replace(str(volunteers.gate.manifest), str(signed)))
    user.mock("--remote", "agent", "--resultdir", tmp_path / "r", plain_srpm).expect()
    policy = tmp_path / "policy.toml"
    policy.write_text(f'owner_signed = true\nowner_keys = ["{OWNER.public.fingerprint}"]\n')
    user.cloud("verify", tmp_path / "r", "--policy", policy).expect()
    assert not (volunteers.gate.root / OWNER_KEY.lstrip("/")).exists()


def test_the_owner_signs_and_both_signatures_are_verified(
    user: User, plain_srpm: Path, tmp_path: Path
) -> None:
    user.mock("--remote", "signed", "--resultdir", tmp_path / "r", plain_srpm).expect()
    policy = tmp_path / "policy.toml"
    policy.write_text(f'owner_signed = true\nowner_keys = ["{OWNER.public.fingerprint}"]\n')
    found = user.cloud("verify", tmp_path / "r", "--policy", policy, "--json").expect()
    assert json.loads(found.stdout)["owner_key"] == OWNER.public.fingerprint
    assert "owner-sign" in (tmp_path / "r/remote_order.log").read_text()
    check_with_ssh_keygen(tmp_path / "r", tmp_path)


def check_with_ssh_keygen(results: Path, place: Path) -> None:
    """The owner's signature, by OpenSSH's own verifier: of this statement, in this namespace."""
    envelope = json.loads((results / "remote_provenance.json").read_bytes())
    definition = json.loads(base64.b64decode(envelope["payload"]))["predicate"]["buildDefinition"]
    signed = definition["internalParameters"]["ownerSignature"]
    allowed, signature = place / "allowed", place / "signature"
    allowed.write_text(f"owner {OWNER.public}\n")
    signature.write_text(signed["signature"])
    argv = ["ssh-keygen", "-Y", "verify", "-f", allowed, "-I", "owner", "-s", signature]
    for text, namespace, code in (
        (signed["statement"], "results@mock-cloud", 0),
        (signed["statement"] + " ", "results@mock-cloud", 255),
        (signed["statement"], "git", 255),
    ):
        words = [*map(str, argv), "-n", namespace]
        done = subprocess.run(words, input=text.encode(), capture_output=True, check=False)
        assert done.returncode == code, done.stderr
    statement = json.loads(signed["statement"])
    packages = {path.name for path in results.glob("*.rpm")}
    assert set(statement["packages"]) == packages


def test_without_the_owners_signature_nothing_is_published(
    user: User, plain_srpm: Path, tmp_path: Path
) -> None:
    for remote, said in (("stranger", "owner.signature"), ("unsigned", "owner.missing")):
        place = tmp_path / remote
        ended = user.mock("--remote", remote, "--resultdir", place, plain_srpm)
        check_failure(ended, 77, said, hint="mock-cloud attest --explain")
        assert not list(place.glob("*.rpm")) and not (place / "remote_provenance.json").exists()
