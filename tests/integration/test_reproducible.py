# SPDX-License-Identifier: GPL-2.0-or-later
"""[build] reproducible: two nodes, two days, the same bytes."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import MakeUser, User
from tests.integration.real_mock import with_mock
from tests.lab.srpm import Recipe, toy

pytestmark = pytest.mark.lab
BUILDERS = ("other",)

# Its file is as old as the build, and says where and when it was built.
TIMELY = toy(
    "toy-timely",
    install="(date +%Z; echo $LANG) > %{buildroot}%{_datadir}/toy-timely/facts",
    rest="%changelog\n* Tue Nov 14 2023 Lab <lab@lab.invalid> - 1-1\n- Packaged for the lab\n\n",
)


def built(user: User, remote: str, srpm: Path, place: Path) -> dict[str, bytes]:
    user.mock("--remote", remote, "--resultdir", place, srpm).expect()
    return {path.name: path.read_bytes() for path in place.glob("*.rpm")}


def check_said(place: Path, engine: str) -> None:
    """What was set stands in the provenance."""
    envelope = json.loads((place / "remote_provenance.json").read_bytes())
    definition = json.loads(base64.b64decode(envelope["payload"]))["predicate"]["buildDefinition"]
    used = definition["internalParameters"]
    assert used["engine"] == engine
    assert used["environment"] == {"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    assert used["macros"]["%_buildhost"] == "reproducible"
    assert used["macros"]["%source_date_epoch_from_changelog"] == "1"


@pytest.mark.slow
def test_two_nodes_build_the_same_bytes(
    builders: User,
    lab_srpm: Callable[[Recipe], Path],
    tmp_path: Path,
) -> None:
    srpm = lab_srpm(TIMELY)
    plain = [built(builders, name, srpm, tmp_path / f"plain-{name}") for name in ("local", "other")]
    assert plain[0].keys() == plain[1].keys()
    assert plain[0] != plain[1]
    for name in ("local", "other"):
        file = builders.config.remote_file.with_name(f"{name}.toml")
        file.write_text(file.read_text().replace("[build]", "[build]\nreproducible = true"))
    same = [built(builders, name, srpm, tmp_path / name) for name in ("local", "other")]
    assert len(same[0]) == 2
    assert same[0] == same[1]
    said = builders.cloud("compare", tmp_path / "local", tmp_path / "other").expect().stdout
    assert "L0 2" in said
    check_said(tmp_path / "local", "chroot")


@pytest.fixture(scope="module")
def mocks(make_user: MakeUser) -> Iterator[User]:
    """Somebody with a mock, which builds on nodes of two remotes."""
    user = with_mock(make_user("mocks"))
    file = user.config.remote_file
    text = file.read_text().replace("[build]", "[build]\nreproducible = true")
    for name in ("local", "other"):
        file.with_name(f"{name}.toml").write_text(text)
        user.mock("--remote", name, "--init").expect()
    yield user
    user.release()


@pytest.mark.slow
def test_mock_itself_builds_the_same_bytes(
    mocks: User, lab_srpm: Callable[[Recipe], Path], tmp_path: Path
) -> None:
    srpm = lab_srpm(TIMELY)
    same = [built(mocks, name, srpm, tmp_path / name) for name in ("local", "other")]
    assert len(same[0]) == 2
    assert same[0] == same[1]
    check_said(tmp_path / "local", "mock")
    mocks.cloud("verify", tmp_path / "other").expect()
