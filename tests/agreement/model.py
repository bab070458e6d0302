# SPDX-License-Identifier: GPL-2.0-or-later
"""What a scenario is, what is seen of it, and what a known difference says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Step:
    """One mock command line.

    In words, `<name>` stands for a path: see `sides.Side.known`. `stdin` is empty unless given.
    `script` is one of bash that runs the command line, its ``"$@"``, in its own way: with
    another umask, without a terminal, twice. Without words it only looks at what was left.
    """

    words: tuple[str, ...] = ()
    stdin: bytes | None = None
    script: str = ""

    def __str__(self) -> str:
        words = [repr(word) if " " in word else word for word in self.words]
        return " ".join([*words, f"({self.script})"] if self.script else words)


@dataclass(frozen=True, slots=True)
class Scenario:
    """Steps that share a chroot and a scratch directory, and what they show.

    `before` is run first and not compared. `files` (name → text) are in the scratch directory, and
    what `prepare`, a script of bash, makes there. `process` is a command line
    of which no process may be left, neither on this machine nor on the node. `details`: modes and
    owners of the files and what the logs say are compared, too. `source`: public reports of it.
    """

    name: str
    shows: str
    steps: tuple[Step, ...]
    before: tuple[Step, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    process: str = ""
    prepare: str = ""
    details: bool = False
    source: str = ""


@dataclass(frozen=True, slots=True)
class Observation:
    """What one step gave, normalised: equal text is equal behaviour.

    `messages` are mock's own lines on stderr; `files` the names below the scratch directory,
    with " (empty)" after those that are. With details, `modes` says of each how it may be used,
    and `logs` what was written to each log.
    """

    code: int
    stdout: tuple[str, ...]
    messages: tuple[str, ...]
    files: tuple[str, ...]
    processes: int = 0
    modes: Mapping[str, str] = field(default_factory=dict)
    logs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference that is known, and why it is there.

    `pattern` matches one line of `compare.differences` as a whole. Without `scenarios` it may be
    anywhere.
    """

    reason: str
    pattern: str
    scenarios: tuple[str, ...] = ()
    engines: tuple[str, ...] = ("chroot", "mock")

    def explains(self, line: str, scenario: str, engine: str) -> bool:
        here = not self.scenarios or scenario in self.scenarios
        return here and engine in self.engines and re.fullmatch(self.pattern, line) is not None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a scenario, or the packages of a source, compared with an engine.

    `explained` are differences found and known; `unexplained` lines name the step, too.
    """

    subject: str
    engine: str
    explained: tuple[Difference, ...]
    unexplained: tuple[str, ...]
