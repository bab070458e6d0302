# SPDX-License-Identifier: GPL-2.0-or-later
"""Normalises what a command printed, and lists how two observations differ."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tests.agreement.model import Difference, Observation, Outcome

_MESSAGE = re.compile(r"(?:DEBUG|INFO|WARNING|ERROR|CRITICAL|Start|Finish): ?")
_OF_MOCK = re.compile(r"(?:ENTER \[|EXCEPTION: |Executing command: |Traceback |  |mockbuild\.)")
"""Lines of mock's own code, and what it says of its commands, in build.log."""
_VOLATILE = (
    (r"\bkill -9 \d+", "kill -9 N"),
    (r"rpm-tmp\.\w{6}", "rpm-tmp.X"),
    (r"mock\.py version .*", "mock.py version…"),
    (r"Mock Version: .*", "Mock Version: …"),
    (r"\d+ minutes \d+ seconds", "N minutes N seconds"),
    (r"\d+\.\d+ s\b", "N s"),
    (r"Leftover process \d+ (.*) signal \d+: .*", r"Leftover process N \1 signal N"),
    (r"/root//(?=builddir)", "/root/"),
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


def log_lines(name: str, lines: Iterable[str]) -> tuple[str, ...]:
    """What a log's lines say, without when.

    rpmbuild's two streams are two pipes to mock, so that the order in build.log is chance.
    """
    said = (re.sub(r"^TIME - ", "", line) for line in lines if not _OF_MOCK.match(line))
    return tuple(sorted(said) if name == "build.log" else said)


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
    for name in sorted({*local.modes} & {*remote.modes}):
        if local.modes[name] != remote.modes[name]:
            found += [f"mode -{local.modes[name]} {name}", f"mode +{remote.modes[name]} {name}"]
    for name in sorted({*local.logs} & {*remote.logs}):
        found += _lines(name, local.logs[name], remote.logs[name])
    return found


def _lines(aspect: str, local: Sequence[str], remote: Sequence[str]) -> Iterator[str]:
    matcher = difflib.SequenceMatcher(None, local, remote, autojunk=False)
    for what, start, end, other_start, other_end in matcher.get_opcodes():
        if what != "equal":
            yield from (f"{aspect} -{line}" for line in local[start:end])
            yield from (f"{aspect} +{line}" for line in remote[other_start:other_end])


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
