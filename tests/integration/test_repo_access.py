# SPDX-License-Identifier: GPL-2.0-or-later
"""Repositories that only this machine reaches: its files, its loopback, through a lent machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import User
from tests.lab import chroots
from tests.lab.http import FileServer
from tests.lab.layout import Lab, locked
from tests.lab.volunteers import Volunteers, build

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def volunteers(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Volunteers]:
    with locked(lab):
        build(lab)
    with Volunteers(lab, tmp_path_factory.mktemp("volunteers")) as made:
        yield made


@pytest.fixture
def user(
    lab: Lab, volunteers: Volunteers, tmp_path: Path, cache: Path, lab_repo: FileServer
) -> Iterator[User]:
    """Builds on alpha, whose loopback is its own; the repositories are on ours."""
    (tmp_path / "home").mkdir()
    config = chroots.write(lab, tmp_path / "etc", repository_url=f"{lab_repo.url}/dist")
    with (config.path / "site-defaults.cfg").open("a") as stream:
        stream.write(f"config_opts['basedir'] = {str(tmp_path / 'var/lib/mock')!r}\n")
    identity = f'identity = "{volunteers.user_key}"'
    volunteers.write_remote(config, "alpha", volunteers.alpha.table(more=identity))
    options = ("--configdir", str(config.path), "-r", config.chroot(), "--remote", "alpha")
    made = User(tmp_path, config, cache, options)
    yield made
    made.release()


def set_build(user: User, text: str, *, second_look: bool = False) -> None:
    path = user.config.path / "remotes.d/alpha.toml"
    kept = path.read_text().partition("\n[build]\n")[0]
    if second_look:
        kept = kept.replace("[attest]\n", '[attest]\nsecond_look = "always"\n')
    path.write_text(f"{kept}\n[build]\nretries = 0\n{text}")


def test_loopback_and_files_of_this_machine(
    user: User, lab: Lab, lab_repo: FileServer, volunteers: Volunteers, plain_srpm: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    """auto: both kinds are tunnelled; the second look sees no socket; warm layers stay warm."""
    set_build(user, "", second_look=True)
    results = tmp_path / "results"
    addrepo = f"--addrepo=file://{lab.release(2)}"
    built = user.mock(addrepo, "--resultdir", results, plain_srpm).expect()
    assert "reached through this machine: lab, " in built.stderr
    assert "the node is unchanged after the build" in built.stderr
    assert list(results.glob("toy-plain-*.rpm"))
    lab_repo.forget_accesses()
    again = user.mock(addrepo, "--resultdir", results, plain_srpm).expect()
    assert "warm node" in again.stderr
    assert [one.path.rpartition("/")[2] for one in lab_repo.accesses()] == ["repomd.xml"]
