# SPDX-License-Identifier: GPL-2.0-or-later
"""Owners of lent machines sign what was built there, with ssh-keygen, or nothing is published."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mock_cloud.sshkeys import make_key_pair
from tests.integration.conftest import User, new_user
from tests.integration.faults import check_failure
from tests.lab.layout import Lab, locked
from tests.lab.volunteers import Volunteers, build

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


def test_the_owner_signs_and_both_signatures_are_verified(
    user: User, plain_srpm: Path, tmp_path: Path
) -> None:
    user.mock("--remote", "signed", "--resultdir", tmp_path / "r", plain_srpm).expect()
    policy = tmp_path / "policy.toml"
    policy.write_text(f'owner_signed = true\nowner_keys = ["{OWNER.public.fingerprint}"]\n')
    found = user.cloud("verify", tmp_path / "r", "--policy", policy, "--json").expect()
    assert json.loads(found.stdout)["owner_key"] == OWNER.public.fingerprint
    assert "owner-sign" in (tmp_path / "r/remote_order.log").read_text()


def test_without_the_owners_signature_nothing_is_published(
    user: User, plain_srpm: Path, tmp_path: Path
) -> None:
    for remote, said in (("stranger", "owner.signature"), ("unsigned", "owner.missing")):
        place = tmp_path / remote
        ended = user.mock("--remote", remote, "--resultdir", place, plain_srpm)
        check_failure(ended, 77, said, hint="mock-cloud attest --explain")
        assert not list(place.glob("*.rpm")) and not (place / "remote_provenance.json").exists()
