# SPDX-License-Identifier: GPL-2.0-or-later
"""Users of lent machines, whose repositories are where only this machine gets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import User, new_user
from tests.lab import chroots
from tests.lab.http import FileServer
from tests.lab.layout import Lab, locked
from tests.lab.volunteers import Volunteers, build


@pytest.fixture(scope="module")
def volunteers(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Volunteers]:
    """Machines whose loopback is their own; the sshd of beta forwards nothing."""
    with locked(lab):
        build(lab)
    place = tmp_path_factory.mktemp("volunteers")
    with Volunteers(lab, place, {"beta": "AllowTcpForwarding no"}) as made:
        yield made


MakeUser = Callable[..., User]


@pytest.fixture
def make_user_of(
    lab: Lab, volunteers: Volunteers, tmp_path: Path, cache: Path, lab_repo: FileServer
) -> Iterator[MakeUser]:
    """Makes users of one machine; the repositories are on our loopback unless `url` says where."""
    users: list[User] = []

    def make(name: str, settings: str = "", *, url: str = "", table: str = "") -> User:
        place = tmp_path / f"user{len(users)}"
        config = chroots.write(lab, place / "etc", repository_url=f"{url or lab_repo.url}/dist")
        machine = {"alpha": volunteers.alpha, "beta": volunteers.beta}[name]
        identity = f'identity = "{volunteers.user_key}"\n'
        host = machine.table(more=identity + table)
        volunteers.write_remote(config, name, host, f"[build]\nretries = 0\n{settings}\n")
        users.append(new_user(place, config, cache, "--remote", name))
        return users[-1]

    yield make
    for user in users:
        user.release()
