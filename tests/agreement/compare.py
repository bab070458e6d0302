# SPDX-License-Identifier: GPL-2.0-or-later
"""Normalises what a command printed, and lists how two observations differ."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tests.agreement.model import Difference, Observation, Outcome

_MESSAGE = re.compile(r"(?:DEBUG|INFO|WARNING|ERROR|CRITICAL|Start|Finish): ?")
_VOLATILE = (
    (r"mock\.py version .*", "mock.py version…"),
    (r"Mock Version: .*", "Mock Version: …"),
    (r"\d+ minutes \d+ seconds", "N minutes N seconds"),
    (r"\d+\.\d+ s\b", "N s"),
    (r"Leftover process \d+ (.*) signal \d+: .*", r"Leftover process N \1 signal N"),
    (r"/var/tmp/mock-chain-[\w.-]+", "<localrepo>"),
    (r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d[,.]?\d*", "TIME"),
)


def normalise(text: str, paths: Mapping[str, str]) -> tuple[str, ...]:
    """Lines of `text`; a path of `paths` (path → what it is called) is given its name."""
    for path in sorted(paths, key=len, reverse=True):
        text = text.replace(path, f"<{paths[path]}>")
    for pattern, name in _VOLATILE:
        text = re.sub(pattern, name, text)
    return tuple(text.splitlines())


def messages(lines: Iterable[str]) -> tuple[str, ...]:
    """mock's own lines."""
    return tuple(line for line in lines if _MESSAGE.match(line))


def differences(local: Observation, remote: Observation) -> list[str]:
    """A line for each thing that one side has alone: ``ASPECT -local's``, ``ASPECT +remote's``."""
    found = []
    if local.code != remote.code:
        found += [f"exit -{local.code}", f"exit +{remote.code}"]
    if local.processes != remote.processes:
        found += [f"processes -{local.processes}", f"processes +{remote.processes}"]
    found += _lines("stdout", local.stdout, remote.stdout)
    found += _lines("stderr", local.messages, remote.messages)
    found += [f"files -{name}" for name in sorted({*local.files} - {*remote.files})]
    found += [f"files +{name}" for name in sorted({*remote.files} - {*local.files})]
    return found


def _lines(aspect: str, local: Sequence[str], remote: Sequence[str]) -> Iterator[str]:
    for line in difflib.ndiff(local, remote, linejunk=None, charjunk=None):
        if line[:2] in ("- ", "+ "):
            yield f"{aspect} {line[0]}{line[2:]}"


def judge(
    scenario: str,
    engine: str,
    found: Iterable[tuple[str, Iterable[str]]],
    known: Sequence[Difference],
) -> Outcome:
    """What `known` explains of the lines that each step (or package) of a scenario `found`."""
    left: list[str] = []
    used: list[Difference] = []
    for step, lines in found:
        for line in lines:
            why = next((one for one in known if one.explains(line, scenario, engine)), None)
            if why is None:
                left.append(f"{step}: {line}")
            elif why not in used:
                used.append(why)
    return Outcome(scenario, engine, tuple(used), tuple(left))
