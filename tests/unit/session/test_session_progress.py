# SPDX-License-Identifier: GPL-2.0-or-later
"""How far a build is: as a terminal shows it, as a program reads it, and nothing of it in a file.

The terminals are real ones (pty), read by an emulator; the builds are `test_session_story`'s.
"""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TextIO

import pytest

from mock_cloud.console import QUIET, Console
from mock_cloud.progress.timeline import ProgressMode
from tests.unit.session.scripted_node import ScriptedNode
from tests.unit.session.scripted_place import PACKAGE, Place
from tests.unit.terminals import TITLE, said_by_node, terminal

pytest.importorskip("rich")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    for name in ("STATE", "CACHE", "CONFIG"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    place = Place(tmp_path)
    place.enter(monkeypatch.setattr)
    yield place
    place.cloud.close()


def build(
    place: Place, stream: TextIO, mode: ProgressMode = ProgressMode.AUTO
) -> tuple[int, Console]:
    """A build whose console writes to `stream`."""
    console = Console(stream=stream)
    console.set_progress(mode)
    return place.build(console=console), console


def hold(node: ScriptedNode) -> None:
    """The job goes on until the view was drawn at least once."""
    threading.Event().wait(0.7)


def test_a_file_has_what_it_always_had(place: Place) -> None:
    place.cloud.scripts[0].logs["terminal"] = said_by_node(b"Start: build\nINFO: Done(x) 0\n")
    screen = io.StringIO()
    build(place, screen)
    made, new, trusted, *job = screen.getvalue().splitlines()
    assert re.fullmatch(r"INFO: made the key that signs .*", made)
    assert re.fullmatch(r"INFO: remote cloud: new node root@127\.0\.0\.1:\d+.*", new)
    assert re.fullmatch(r"INFO: remote cloud: node trusted \(tier 1\): .* in \d\.\d s", trusted)
    assert job == ["Start: build", "INFO: Done(x) 0"]


def test_asking_for_none_changes_nothing_in_a_file(place: Place) -> None:
    auto, none = io.StringIO(), io.StringIO()
    build(place, auto)
    build(place, none, ProgressMode.NONE)
    numberless = [re.sub(r"[\d.]+", "N", one.getvalue()) for one in (auto, none)]
    warm = numberless[0].splitlines()[-1:]
    assert numberless[1].splitlines()[-1:] == warm
    assert "\x1b" not in auto.getvalue() + none.getvalue()


def test_a_terminal_shows_phases_and_at_the_end_what_took_how_long(place: Place) -> None:
    place.cloud.price = 0.5
    place.cloud.scripts[0].while_followed = hold
    with terminal() as screen:
        assert build(place, screen.stream)[0] == 0
    assert b"\x1b[" in screen.data and b"so far" in screen.data
    lines = screen.lines()
    phases = [line.split()[1] for line in lines if line.startswith("·")]
    assert phases == ["check", "node", "attest", "send", "job", "results", "release"]
    assert "in all" in lines[-2] and "moved" in lines[-2]
    assert re.fullmatch(r"  the node is kept until \d\d:\d\d, which costs 0\.08 at most", lines[-1])
    assert not any("▸" in line or "so far" in line for line in lines)


def test_how_long_the_last_build_took_says_how_long_this_one_may(place: Place) -> None:
    assert place.build() == 0
    (job,) = place.journal.jobs()
    before = replace(job, started_unix=job.started_unix - 300)
    place.journal.note_job(before)
    place.cloud.scripts[0].while_followed = hold
    with terminal() as screen:
        assert build(place, screen.stream)[0] == 0
    assert re.search(rb"about (5:00|4:5\d) left", screen.data)


@pytest.mark.parametrize("columns", [40, 20])
def test_a_narrow_terminal_is_not_wrapped(place: Place, columns: int) -> None:
    place.cloud.scripts[0].while_followed = hold
    with terminal(columns, 12) as screen:
        assert build(place, screen.stream)[0] == 0
    lines = screen.lines()
    assert len([line for line in lines if line.startswith("·")]) == 7
    assert not any("▸" in line for line in lines)


def test_a_terminal_that_is_resized_keeps_its_lines(place: Place) -> None:
    def narrow(node: ScriptedNode) -> None:
        hold(node)
        screen.resize(50, 10)
        hold(node)

    place.cloud.scripts[0].while_followed = narrow
    with terminal() as screen:
        assert build(place, screen.stream)[0] == 0
    lines = screen.lines()
    assert any("node trusted" in line for line in lines)
    assert not any("▸" in line for line in lines)


def test_without_colours_there_are_none(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    place.cloud.scripts[0].while_followed = hold
    with terminal() as screen:
        assert build(place, screen.stream)[0] == 0
    assert re.search(rb"\x1b\[[0-9;]*(3[0-7]|38|9[0-7])[;m]", screen.data) is None


@pytest.mark.parametrize("how", ["dumb", "none"])
def test_no_view_where_it_cannot_be_or_nobody_wants_it(
    place: Place, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "dumb":
        monkeypatch.setenv("TERM", "dumb")
    with terminal() as screen:
        build(place, screen.stream, ProgressMode.NONE if how == "none" else ProgressMode.AUTO)
    assert b"\x1b" not in screen.data and b"in all" not in screen.data


def test_words_of_a_node_move_no_cursor(place: Place) -> None:
    words = said_by_node(b"Start: " + TITLE + b"\n", TITLE + b"half a line")
    place.cloud.scripts[0].logs = {"terminal": words, "build.log": TITLE + b"\n"}
    place.cloud.scripts[0].exit = 1
    place.cloud.scripts[0].while_followed = hold
    with terminal() as screen:
        assert build(place, screen.stream)[0] == 1
    for sequence in (b"\x1b]", b"\x1b[2J", b"\x1b[?1049h", b"\x07"):
        assert sequence not in screen.data
    assert any("half a line" in line for line in screen.lines())


def test_plain_lines_for_who_asks(place: Place) -> None:
    screen = io.StringIO()
    build(place, screen, ProgressMode.PLAIN)
    text = screen.getvalue()
    assert "\x1b" not in text
    assert re.search(r"^INFO: \[0:\d\d\] attest: remote cloud: measuring the node$", text, re.M)
    assert re.search(r"^INFO: \[0:\d\d\] job: done in 0:\d\d$", text, re.M)
    assert "the node is kept until" in text.splitlines()[-1]


def test_json_for_programs(place: Place) -> None:
    place.cloud.price = 0.5
    place.cloud.scripts[0].logs["terminal"] = said_by_node(TITLE + b"\n")
    screen = io.StringIO()
    build(place, screen, ProgressMode.JSON)
    assert screen.getvalue().isascii() and "\x1b" not in screen.getvalue()
    events = [json.loads(line) for line in screen.getvalue().splitlines()]
    phases = [one["phase"] for one in events if one["event"] == "end"]
    assert phases == ["check", "node", "attest", "send", "job", "results", "release"]
    moved = {one["phase"]: one for one in events if one["event"] == "end"}
    assert moved["send"]["bytes"] == place.srpm.stat().st_size
    assert moved["results"]["bytes"] >= (place.results / PACKAGE).stat().st_size
    (summary,) = [one for one in events if one["event"] == "summary"]
    assert summary["cost"] > 0 and summary["kept_until_unix"] and summary["kept_cost"] > 0


def test_quiet_is_quiet_on_a_terminal_too(place: Place) -> None:
    place.cloud.scripts[0].logs = {"build.log": b"error: Bad exit status from /x (%build)\n"}
    place.cloud.scripts[0].exit = 1
    with terminal() as screen:
        assert place.build(console=Console(QUIET, screen.stream)) == 1
    assert screen.data == b""


def test_a_failure_is_explained_to_people_and_to_who_asks(place: Place) -> None:
    log = b"+ make\ncc: error: no such thing\nmake: *** [all] Error 1\n" + TITLE + b"\n"
    log += b"error: Bad exit status from /var/tmp/rpm-tmp.1 (%build)\nRPM build errors:\n"
    place.cloud.scripts[0].logs = {"build.log": log}
    place.cloud.scripts[0].exit = 1
    screen = io.StringIO()
    assert build(place, screen)[0] == 1
    assert "no such thing" not in screen.getvalue() and "compile" not in screen.getvalue()
    assert build(place, screen, ProgressMode.PLAIN)[0] == 1
    assert "  cc: error: no such thing\n" in screen.getvalue()
    assert "compile: %build failed\n" in screen.getvalue() and "\x1b" not in screen.getvalue()
    events = io.StringIO()
    assert build(place, events, ProgressMode.JSON)[0] == 1
    found = [json.loads(line) for line in events.getvalue().splitlines()]
    (failure,) = [one for one in found if one["event"] == "failure"]
    assert (failure["kind"], failure["exit"]) == ("compile", 1)
    assert failure["lines"][1] == "cc: error: no such thing"
