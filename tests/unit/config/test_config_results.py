# SPDX-License-Identifier: GPL-2.0-or-later
"""Where results go by default: mock's own directory, or the user's where that can't be written."""

from __future__ import annotations

import os
import pwd
import tempfile
from pathlib import Path

import pytest

from mock_cloud.config import paths
from mock_cloud.config.defaults import ConfigOpts, default_config_opts
from mock_cloud.config.paths import describe_default_results, locate_paths


@pytest.fixture
def opts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ConfigOpts:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr(paths, "MOCK_LIBDIR", str(tmp_path / "mock"))
    found = default_config_opts()
    found["root"] = "lab-1"
    found["basedir"] = str(tmp_path / "mock")
    found["__jinja_expand"] = True
    return found


def refuse(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    """Nobody may write there, though root can: what an ordinary user is told by access(2)."""
    real = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode, **_: Path(path) != directory and real(path, mode)
    )


def test_mocks_own_directory_where_it_can_be_made(opts: ConfigOpts, tmp_path: Path) -> None:
    found = locate_paths(opts)
    assert found.resultdir == tmp_path / "mock/lab-1/result"
    assert not found.is_users_own and found.results_go_with_chroot
    assert describe_default_results() == f"{tmp_path}/mock/CHROOT/result, as mock's"


def test_a_directory_of_the_users_where_not(
    opts: ConfigOpts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, tmp_path)  # what would have to hold /var/lib/mock
    found = locate_paths(opts)
    assert found.resultdir == tmp_path / "data/mock-cloud/results/lab-1/result"
    assert found.is_users_own and found.results_go_with_chroot
    assert found.rootdir == tmp_path / "mock/lab-1/root"
    assert str(tmp_path / "data/mock-cloud/results") in describe_default_results()


def test_results_of_another_user_are_not_in_the_way(
    opts: ConfigOpts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = tmp_path / "mock/lab-1/result"
    theirs.mkdir(parents=True)
    refuse(monkeypatch, theirs)
    assert locate_paths(opts).is_users_own


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it acts for another user")
def test_under_sudo_it_is_for_the_user_who_called_it_to_write(
    opts: ConfigOpts, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = pwd.getpwnam("nobody")
    monkeypatch.setenv("SUDO_UID", str(user.pw_uid))
    with tempfile.TemporaryDirectory(prefix="mock-cloud-mock-") as name:
        monkeypatch.setattr(paths, "MOCK_LIBDIR", name)
        opts["basedir"] = name
        Path(name).chmod(0o755)
        found = locate_paths(opts)
        assert found.is_users_own
        assert found.resultdir == Path(user.pw_dir, ".local/share/mock-cloud/results/lab-1/result")
        Path(name).chmod(0o777)
        assert locate_paths(opts).resultdir == Path(name, "lab-1/result")


@pytest.mark.parametrize("name", ["resultdir", "basedir"])
def test_what_was_chosen_stays(
    opts: ConfigOpts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    refuse(monkeypatch, tmp_path)
    opts[name] = str(tmp_path / "chosen")
    found = locate_paths(opts)
    assert not found.is_users_own
    assert tmp_path / "chosen" in (found.resultdir, *found.resultdir.parents)
