# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a user's own files are: XDG variables, HOME, the password database."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from mock_cloud import places
from mock_cloud.config.remotes import list_remotes, load_remote, remote_directories
from mock_cloud.errors import ConfigError
from mock_cloud.places import cache_dir, packed_dir, state_dir

KINDS = {
    "XDG_CONFIG_HOME": (places.config_home, ".config"),
    "XDG_DATA_HOME": (places.data_home, ".local/share"),
    "XDG_STATE_HOME": (places.state_home, ".local/state"),
    "XDG_CACHE_HOME": (places.cache_home, ".cache"),
}


@pytest.mark.parametrize("variable", KINDS)
def test_one_rule_for_all_kinds(variable: str, tmp_path: Path) -> None:
    find, default = KINDS[variable]
    home = {"HOME": str(tmp_path)}
    assert find(home) == tmp_path / default
    assert find(home | {variable: "/elsewhere"}) == Path("/elsewhere")
    assert find(home | {variable: "relative"}) == tmp_path / default


@pytest.mark.parametrize("given", ["", "relative", "/nonexistent", "/proc/1"])
def test_a_home_that_is_not_ours_is_not_used(
    given: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if given == "/proc/1":  # somebody else's
        given = str(tmp_path / "theirs")
        Path(given).mkdir()
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert places.home({"HOME": given}) == Path(pwd.getpwuid(os.getuid()).pw_dir)


def test_all_of_ours_follows_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in KINDS:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert remote_directories()[0] == tmp_path / ".config/mock/remotes.d"
    assert state_dir() == tmp_path / ".local/state/mock-cloud"
    assert cache_dir() == tmp_path / ".cache/mock-cloud"


def test_remotes_follow_xdg_config_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    directory = tmp_path / "mock/remotes.d"
    directory.mkdir(parents=True)
    (directory / "mine.toml").write_text("")
    assert "mine" in [one.name for one in list_remotes()]
    with pytest.raises(ConfigError, match=str(directory)):
        load_remote("other")


@pytest.fixture
def own_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The home of the password database, where toolkits are; $HOME is a new one."""
    own, thrown_away = tmp_path / "own", tmp_path / "thrown-away"
    thrown_away.mkdir()
    (own / ".cache/mock-cloud/toolkits").mkdir(mode=0o700, parents=True)
    monkeypatch.setattr(places, "password_home", lambda: own)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(thrown_away))
    return own


def test_a_home_to_throw_away_has_what_was_packed_in_the_users_own(own_home: Path) -> None:
    assert packed_dir("toolkits") == own_home / ".cache/mock-cloud/toolkits"
    assert packed_dir("mocks") == cache_dir() / "mocks"  # nothing is made in the other home
    assert not (own_home / ".cache/mock-cloud/mocks").exists()


def test_a_home_with_a_cache_of_its_own_keeps_to_it(own_home: Path) -> None:
    (cache_dir() / "toolkits").mkdir()
    assert packed_dir("toolkits") == cache_dir() / "toolkits"


def test_a_cache_that_was_chosen_is_the_only_one(
    own_home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "chosen"))
    assert packed_dir("toolkits") == tmp_path / "chosen/mock-cloud/toolkits"


@pytest.mark.parametrize("where", [".cache", ".cache/mock-cloud", ".cache/mock-cloud/toolkits"])
@pytest.mark.parametrize("mode", [0o770, 0o702, 0o1777])
def test_what_others_may_write_to_is_not_sent_to_nodes(
    own_home: Path, where: str, mode: int
) -> None:
    """Whoever may write there, or put another directory in its place, makes the toolkit."""
    (own_home / where).chmod(mode)
    assert packed_dir("toolkits") == cache_dir() / "toolkits"


@pytest.mark.parametrize("where", [".cache/mock-cloud", ".cache/mock-cloud/toolkits"])
def test_what_is_another_users_is_not_sent_to_nodes(
    own_home: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root, to give a directory away")
    os.chown(own_home / where, 12345, -1)
    assert packed_dir("toolkits") == cache_dir() / "toolkits"


def test_a_link_to_elsewhere_is_not_followed(own_home: Path, tmp_path: Path) -> None:
    real = own_home / ".cache/mock-cloud"
    real.rename(tmp_path / "elsewhere")
    real.symlink_to(tmp_path / "elsewhere")
    assert packed_dir("toolkits") == cache_dir() / "toolkits"
