# SPDX-License-Identifier: GPL-2.0-or-later
"""The 25 calls of mock that a fedora-review makes, in sequence: both engines beside local mock.

python -m tests.bench.bench_review [--rounds N]

fedora-review's own code of today was not to be had where this was written: the words and their
order are after what its module for mock does. Needs what `bench_series` needs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.bench.bench_series import RELIES, Mock, made_mocks
from tests.lab import srpm
from tests.lab.layout import Lab, default_lab

_BUILD = "--rebuild"


def _calls(package: Path, result: Path) -> Iterator[Sequence[str]]:
    """Command lines, without the configuration's."""
    name = package.name.partition("-1-")[0]
    to = f"--resultdir={result}"

    def inside(command: str, *options: str) -> Sequence[str]:
        return (to, *options, "--chroot", "--", command)

    def evaluate(macro: str) -> Sequence[str]:
        return inside(f'rpm --eval "{macro}"', "--quiet")

    yield ("--version",)
    yield (to, "--init")
    yield inside("rpm --eval %_topdir", "-q")
    yield evaluate("%dist %fedora %epel %buildarch %_libdir %_isa %arch")
    yield inside("rm -rf $(rpm --eval %_builddir)/*")
    yield (to, "--copyin", str(package), package.name)
    prepare = f"rpmbuild --nodeps -bp $(rpm --eval %_specdir)/{name}.spec"
    readable = "chmod -R  go+r  $(rpm --eval %_builddir)/* || :"
    yield inside(f"rpm -i {package.name}; {prepare}; {readable}")
    yield (to, _BUILD, str(package))
    yield (to, "--init")
    yield inside("rpm -q rpm-build &>/dev/null")
    yield inside("rpm -q psmisc &>/dev/null")
    yield (to, "--shell", "'rm -f /var/lib/rpm/__db*'")
    yield (to, "--install", "psmisc")
    yield inside("rpm -q psmisc &>/dev/null")
    yield inside(f"rpm -q {name} &>/dev/null")
    yield (to, "--install", str(result / package.name.replace(".src.", ".lab1.noarch.")))
    yield inside(f"rpm -q {name} &>/dev/null")
    yield inside(f"echo 'rpmlint:'; rpm -qa {name}; echo 'rpmlint-done:'")
    yield inside(f"echo 'rpmlint:'; rpm -qi {name}; echo 'rpmlint-done:'")
    yield from map(evaluate, ("%_libdir", "%_isa", "%fedora", "%_bindir"))
    yield inside(f"rpm -ql {name}")
    yield inside("rpm -qa --qf '%{name}\\n' | sort")


def _review(mock: Mock, package: Path, result: Path) -> list[tuple[float, int]]:
    """Seconds and exit code of each call."""
    ended = [mock.end(*words) for words in _calls(package, result)]
    return [(seconds, done.returncode) for seconds, done in ended]


def run(lab: Lab, rounds: int) -> None:
    """Print what a review takes each of them: the median of `rounds`, after one that warms up."""
    with made_mocks(lab, srpm.plain()) as (made, package, place):
        mocks = [mock for mock in made if mock is made[0] or mock.name.endswith(RELIES)]
        took: dict[str, list[list[float]]] = {mock.name: [] for mock in mocks}
        used: dict[str, list[float]] = {mock.name: [] for mock in mocks}
        expected: list[int] = []
        for number in range(rounds + 1):
            for mock in mocks:
                before_s = mock.group.processor_s()
                ended = _review(mock, package, place / mock.name / "out")
                spent_s = mock.group.processor_s() - before_s
                codes = [code for _, code in ended]
                expected = expected or codes
                if codes != expected:
                    raise SystemExit(f"{mock.name}: ended with {codes}, local mock with {expected}")
                if number:
                    took[mock.name].append([seconds for seconds, _ in ended])
                    used[mock.name].append(spent_s)
        words = list(_calls(package, place))
    print(
        f"{len(words)} calls, exit codes {expected}, {rounds} rounds, load {os.getloadavg()[0]:.1f}"
    )
    for what, values in (("wall", {name: [*map(sum, one)] for name, one in took.items()}),
                         ("processor, the node's too", used)):  # fmt: skip
        print(f"{what}, seconds")
        local = statistics.median(values[mocks[0].name])
        for name, rounds_s in values.items():
            whole = statistics.median(rounds_s)
            print(f"  {name:28} {whole:7.2f} s   {whole / local:5.2f}x")
    for number, line in enumerate(words):
        each = [statistics.median(one[number] for one in took[mock.name]) for mock in mocks]
        seconds = "  ".join(f"{value:6.2f}" for value in each)
        print(f"  {seconds}   {' '.join(line[1:] if len(line) > 1 else line)[:60]}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    try:
        run(default_lab(), parser.parse_args(arguments).rounds)
    except pytest.skip.Exception as skipped:
        print(f"not measured: {skipped.msg}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
