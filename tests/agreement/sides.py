# SPDX-License-Identifier: GPL-2.0-or-later
"""The sides of the comparison: local mock, and `mock --remote local` with either engine."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.agreement import compare
from tests.agreement.model import Observation, Scenario, Step

_TIMEOUT_S = 900.0  # of what hangs; how long it takes says how busy the machine is
_PLACEHOLDER = re.compile(r"<(\w+)>")


@dataclass(frozen=True, slots=True)
class Side:
    """One way to run a mock command line.

    `argv` and `environment` start it. `scratch` is the directory of its scenarios, which
    `owner` may write to. `known` maps placeholders to paths on this machine, `paths` paths that
    only this side has to the names that they are compared by.
    """

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    scratch: Path
    owner: int
    known: Mapping[str, Path]
    paths: Mapping[str, str] = field(default_factory=dict)

    def place(self, scenario: str) -> Path:
        """The scenario's scratch directory."""
        return self.scratch / re.sub(r"\W+", "-", scenario)

    def run(self, scenario: Scenario) -> list[Observation]:
        """Perform the scenario in a scratch directory of its own; what its steps gave."""
        place = self.place(scenario.name)
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        (place / "results").mkdir()
        for name, text in scenario.files.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_text(text)
        if scenario.prepare:
            self._run(Step(script=f"set -e; {scenario.prepare}"), place).check_returncode()
        for path in (place, *place.rglob("*")):
            os.chown(path, self.owner, -1, follow_symlinks=False)
        for step in scenario.before:
            done = self._run(step, place)
            assert done.returncode == 0, f"{self.name}: {step}: {done.stderr.decode()}"
        return [self._observe(scenario, step, place) for step in scenario.steps]

    def _observe(self, scenario: Scenario, step: Step, place: Path) -> Observation:
        before = _files(place)
        done = self._run(step, place)
        names = {**self.paths, str(place): "scratch"}
        streams = (done.stdout, done.stderr)
        stdout, stderr = (
            compare.normalise(stream.decode(errors="backslashreplace"), names) for stream in streams
        )
        after = _files(place)
        changed = {name: size for name, size in after.items() if name not in before}
        listed = (f"{name}{'' if size else ' (empty)'}" for name, size in changed.items())
        messages = compare.messages(stderr)
        left = _processes(scenario.process) if scenario.process else 0
        modes, logs = {}, {}
        if scenario.details:
            modes = {name: _mode(place / name) for name in after if (place / name).exists()}
            for path in (*place.rglob("state.log"), *place.rglob("build.log")):
                name = str(path.relative_to(place))
                data = path.read_bytes()[before.get(name, 0) :]
                lines = compare.normalise(data.decode(errors="backslashreplace"), names)
                logs[name] = compare.log_lines(path.name, lines)
        files = tuple(sorted(listed))
        return Observation(done.returncode, stdout, messages, files, left, modes, logs)

    def _run(self, step: Step, place: Path) -> subprocess.CompletedProcess[bytes]:
        known = {**self.known, "scratch": place, "results": place / "results"}

        def fill(match: re.Match[str]) -> str:
            return str(known.get(match[1], match[0]))

        words = [_PLACEHOLDER.sub(fill, word) for word in step.words]
        argv = [*self.argv, *words] if words else []
        if step.script:
            argv = ["bash", "-c", _PLACEHOLDER.sub(fill, step.script), "bash", *argv]
        return subprocess.run(
            argv,
            env=dict(self.environment),
            cwd=place,
            input=step.stdin or b"",
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )


def _files(place: Path) -> dict[str, int]:
    """Files below `place` and their sizes in bytes; a digest in repodata's names is left out."""
    found = {}
    for path in place.rglob("*"):
        if path.is_file():
            name = re.sub(r"/[0-9a-f]{32,}-", "/DIGEST-", str(path.relative_to(place)))
            found[name] = path.stat().st_size
    return found


def _mode(path: Path) -> str:
    """``-rw-r--r-- USER:GROUP`` of the file."""
    return f"{stat.filemode(path.stat().st_mode)} {path.owner()}:{path.group()}"


def _processes(command: str) -> int:
    """How many processes run `command`; those of nodes are this machine's too."""
    wanted = "\0".join([*command.split(), ""]).encode()
    count = 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            count += path.read_bytes() == wanted
        except OSError:  # it has just ended
            continue
    return count
