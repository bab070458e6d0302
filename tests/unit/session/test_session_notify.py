# SPDX-License-Identifier: GPL-2.0-or-later
"""The user's command at the end of a build in the background: when it is run, and with what."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mock_cloud.invocation.model import DETACHED
from mock_cloud.settings import BuildSettings, NotifySettings
from tests.unit.session.scripted_node import Script
from tests.unit.session.scripted_place import Place

NAME = "20261130-070000-0a1b2c3d"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    for name in ("STATE", "CACHE", "CONFIG"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    path = tmp_path / "a $(touch owned) place"
    path.mkdir()
    place = Place(path)
    place.enter(monkeypatch.setattr)
    yield place
    place.cloud.close()


def writing(to: Path) -> NotifySettings:
    words = ("{job}", "{state}", "{exit}", "{resultdir}")
    return NotifySettings(("sh", "-c", 'printf "%s\\n" "$@" >> "$0"', str(to), *words))


@pytest.mark.parametrize(("code", "state"), [(0, "succeeded"), (10, "failed")])
def test_a_detached_build_tells_how_it_ended(
    place: Place, tmp_path: Path, code: int, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DETACHED, NAME)
    place.cloud.scripts[0].exit = code
    assert place.build(notify=writing(tmp_path / "told")) == code
    told = (tmp_path / "told").read_text().splitlines()
    assert told == [NAME, state, str(code), str(place.results)]
    assert not list(tmp_path.rglob("owned"))


def test_one_that_ends_by_an_error_does_too(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DETACHED, NAME)
    place.cloud.scripts[0] = Script(exit=75, message="no space")
    with pytest.raises(Exception, match="no space"):
        place.build(notify=writing(tmp_path / "told"), build=BuildSettings(retries=0))
    assert (tmp_path / "told").read_text().splitlines()[:3] == [NAME, "failed", "75"]


def test_at_a_terminal_nothing_is_run(place: Place, tmp_path: Path) -> None:
    assert place.build(notify=writing(tmp_path / "told")) == 0
    assert not (tmp_path / "told").exists()


@pytest.mark.parametrize("command", [("false",), ("no-such-program",)])
def test_a_command_that_fails_costs_a_warning(
    place: Place, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DETACHED, NAME)
    assert place.build(notify=NotifySettings(command)) == 0
    assert f"WARNING: [notify] command: {command[0]}" in place.screen.getvalue()


def test_a_word_that_is_not_known_is_refused() -> None:
    from mock_cloud.config.toml_values import Refused, notify_command

    assert notify_command(["x", "{job}"], Path()) == ("x", "{job}")
    with pytest.raises(Refused, match="none of"):
        notify_command(["x", "{password}"], Path())
