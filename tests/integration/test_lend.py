# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine is lent by `mock-cloud lend`, built on by who borrows it, and taken back."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mock_cloud.sshkeys import make_key_pair
from tests.integration.conftest import Ended, User, new_user
from tests.lab.layout import Lab, locked
from tests.lab.volunteers import Volunteers, build

pytestmark = [pytest.mark.lab, pytest.mark.slow]


@pytest.fixture(scope="module")
def volunteers(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Volunteers]:
    """Alpha's sshd reads sshd_config.d, as distributions' do."""
    with locked(lab):
        build(lab)
    include = {"alpha": "Include /etc/ssh/sshd_config.d/*.conf"}
    with Volunteers(lab, tmp_path_factory.mktemp("lend"), include) as made:
        yield made


@pytest.fixture
def user(volunteers: Volunteers, tmp_path: Path, cache: Path) -> Iterator[User]:
    place = tmp_path / "user"
    config = volunteers.write_config(place / "etc")
    made = new_user(place, config, cache, "--remote", "lent")
    yield made
    made.release()


def test_a_machine_is_lent_built_on_and_taken_back(
    user: User, volunteers: Volunteers, lab: Lab, plain_srpm: Path, tmp_path: Path
) -> None:
    alpha = volunteers.alpha
    pair, key = make_key_pair(), tmp_path / "borrower"
    key.touch(0o600)
    key.write_bytes(pair.private.reveal())
    key.with_suffix(".pub").write_text(f"{pair.public}\n")
    known = tmp_path / "known_hosts"
    known.write_text(f"{alpha.machine.address} {alpha.host_key}\n")

    def lend(*words: str | Path) -> Ended:
        ended = user.cloud("lend", "--root", alpha.root, *words)
        os.kill(alpha.machine.init_pid, signal.SIGHUP)
        return ended

    def gets_in() -> bool:
        argv = ["ssh", "-F", "none", "-i", str(key), "-o", f"UserKnownHostsFile={known}",
                "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "ConnectionAttempts=5",
                f"root@{alpha.machine.address}", "true"]  # fmt: skip
        return subprocess.run(argv, capture_output=True, check=False).returncode == 0

    assert not gets_in()
    assert "failed" in lend("--check").expect(1).stdout
    table = lend(
        "--borrower", key.with_suffix(".pub"), "--owner", "Alice", "--name", "alpha",
        "--address", alpha.machine.address,
    ).expect().stdout  # fmt: skip
    checked = lend("--check").expect().stdout
    assert "failed" not in checked and "ok       owner's key: it signs" in checked
    assert gets_in()

    volunteers.write_remote(user.config, "lent", f'{table}identity = "{key}"\n')
    remote, signed = user.config.path / "remotes.d/lent.toml", tmp_path / "alpha.manifest"
    manifest = f'manifest = "{alpha.manifest}"\n'
    remote.write_text(remote.read_text().replace(manifest, ""))
    user.cloud("known-good", "make", "--remote", "lent", "--configdir", user.config.path,
               "--sign-key", lab.keys / "manifest", "--output", signed,
               "--accept-unverified-base").expect()  # fmt: skip
    remote.write_text(
        remote.read_text().replace("[attest]\n", f'[attest]\nmanifest = "{signed}"\n')
    )
    built = user.mock("--resultdir", tmp_path / "r", plain_srpm).expect()
    assert "lent by Alice" in built.stderr
    policy = tmp_path / "policy.toml"
    policy.write_text('owner_signed = true\nowners = ["Alice"]\n')
    user.cloud("verify", tmp_path / "r", "--policy", policy).expect()

    user.release()  # whoever is not let in any more can give nothing back
    assert "removed /etc/mock-cloud/owner-key" in lend("--remove").expect().stderr
    assert not gets_in()
    assert not (alpha.root / "etc/mock-cloud").exists()
    assert "nothing of mock-cloud lend's" in lend("--remove").expect().stderr


def test_what_cannot_be_lent_is_left_alone(user: User, tmp_path: Path) -> None:
    root, key = tmp_path / "root", tmp_path / "key.pub"
    (root / "etc/ssh").mkdir(parents=True)
    (root / "etc/ssh/sshd_config").write_text("PermitRootLogin no\n")
    key.write_text(f"{make_key_pair().public}\n")
    before = sorted(root.rglob("*"))
    words = ("lend", "--root", root, "--borrower", key)
    assert "Include" in user.cloud(*words, "--owner", "Alice").expect(3).stderr
    user.cloud(*words).expect(5)
    user.cloud("lend", "--root", root).expect(5)
    assert sorted(root.rglob("*")) == before
