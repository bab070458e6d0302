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
from mock_cloud.places import cache_dir, state_dir

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
