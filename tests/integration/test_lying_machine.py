# SPDX-License-Identifier: GPL-2.0-or-later
"""A lent machine trojans one object file after each build: what audits and duplicates find."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mock_cloud.sshkeys import make_key_pair
from tests.attack.lying_machine import Trojaning, lying, two_objects
from tests.integration.conftest import User, new_user
from tests.lab.layout import Lab, locked
from tests.lab.srpm import Recipe
from tests.lab.volunteers import Volunteers, build

pytestmark = [pytest.mark.lab, pytest.mark.slow]

OWNERS = {name: make_key_pair() for name in ("alpha", "beta", "gate")}
BUILDS = 10
AUDIT = '[audit]\nrandom = true\nremotes = ["fair"]\njudge = "judge"\n'


@pytest.fixture(scope="module")
def volunteers(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Volunteers]:
    with locked(lab):
        build(lab)
    with Volunteers(lab, tmp_path_factory.mktemp("lying"), owners=OWNERS) as made:
        yield made


@pytest.fixture
def user(volunteers: Volunteers, tmp_path: Path, cache: Path) -> Iterator[User]:
    place = tmp_path / "user"
    made = new_user(place, volunteers.write_config(place / "etc"), cache)
    yield made
    made.release()


@pytest.fixture
def liar(
    user: User, volunteers: Volunteers, lab_srpm: Callable[[Recipe], Path], tmp_path: Path
) -> Iterator[Trojaning]:
    """Remotes of one machine each: `fair`, `judge`, and `lent`, whose owner lies."""
    lies = tmp_path / "lies"
    with lying(volunteers, volunteers.beta, lies) as (address, mode):
        for remote, one, at in (
            ("fair", volunteers.alpha, ""),
            ("judge", volunteers.gate, ""),
            ("lent", volunteers.beta, address),
        ):
            key = OWNERS[one.name].public
            more = f'identity = "{volunteers.user_key}"\nowner_key = "{key}"\n{AUDIT}'
            volunteers.write_remote(user.config, remote, one.table(address=at, more=more))
        trojaned = tmp_path / "trojaned"
        words = ("--remote", "judge", "--resultdir", trojaned, lab_srpm(two_objects(result=1)))
        user.mock(*words).expect()
        lies.mkdir()
        (package,) = trojaned.glob("toy-objects-1-1.lab1.x86_64.rpm")
        shutil.copy(package, lies)
        yield mode
        user.release()  # as long as the machine can be reached


def set_rate(user: User, rate: float) -> None:
    path = user.place / "home/.config/mock/trust.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"[audits]\nnew = {rate}\n")


def flags(user: User) -> dict[str, list[int]]:
    rows = json.loads(user.cloud("trust", "list", "--json").expect().stdout)
    return {row["builder"]: row["flags"] for row in rows if row["flags"]}


def test_what_a_liar_builds_is_found_as_often_as_it_is_drawn(
    user: User, volunteers: Volunteers, liar: Trojaning, lab_srpm: Callable[[Recipe], Path],
    tmp_path: Path,
) -> None:  # fmt: skip
    srpm = lab_srpm(two_objects())
    mine = f"host:{volunteers.beta.host_key.fingerprint}"
    package = "toy-objects-1-1.lab1.x86_64.rpm"
    trojan = (tmp_path / "lies" / package).read_bytes()

    set_rate(user, 1.0)
    honest = tmp_path / "honest"
    ended = user.mock("--remote", "judge", "--resultdir", honest, srpm).expect()
    assert "agrees on 2 packages" in ended.stderr
    assert flags(user) == {}

    set_rate(user, 0.5)
    found = 0
    for number in range(BUILDS):
        place = tmp_path / f"lent-{number}"
        said = user.mock("--remote", "lent", "--resultdir", place, srpm).expect().stderr
        if "audited, " not in said:
            assert "passed over, " in said
            assert (place / package).read_bytes() == trojan
            continue
        found += 1
        assert (place / package).read_bytes() != trojan
        assert "/usr/bin/toy-objects" in said
        (numbers,) = flags(user).values()
        assert flags(user).keys() == {mine}
        for flag in numbers:
            reason = ("--guilty", "--reason", "its object file is another one")
            user.cloud("trust", "resolve", str(flag), *reason).expect()
    print(f"{BUILDS} lies: {found} drawn and flagged, {len(liar.told)} told")
    assert len(liar.told) == BUILDS

    path = user.config.path / "remotes.d/lent.toml"
    text = path.read_text()
    path.write_text(text.replace("random = true", "duplicates = 2").replace('judge = "judge"', ""))
    place = tmp_path / "duplicates"
    said = user.mock("--remote", "lent", "--resultdir", place, srpm).expect(76).stderr
    assert "nothing was published" in said
    assert not list(place.glob("*.rpm"))
    assert flags(user).keys() == {mine, f"host:{volunteers.alpha.host_key.fingerprint}"}
    path.write_text(text)

    user.cloud("trust", "reveal").expect()
    assert user.cloud("trust", "check").expect().stdout.startswith("unchanged: ")
