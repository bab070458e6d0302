# SPDX-License-Identifier: GPL-2.0-or-later
"""`python -m tests.mutations`: the table; exit status 1 if one is not judged as it should be.

Each is judged by a process of its own, with an empty home, and bounds on its time and memory.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tests.mutations.cases import ALL, Case
from tests.mutations.honest import can_build, make_results

CPU_S: Final = 30
MEMORY: Final = 2 << 30


class Ended(NamedTuple):
    code: int
    out: str
    err: str
    cpu_s: float
    peak_mib: int


def run(argv: Sequence[str], place: Path) -> Ended:
    """`mock-cloud` with these words, as somebody who has nothing but the results and the keys."""
    home = place / "home"
    home.mkdir(exist_ok=True)
    out, err = place / "out", place / "err"
    program = Path(sys.executable).parent / "mock-cloud"
    pid = os.fork()
    if not pid:
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        for number, path in ((1, out), (2, err)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        environ = {"HOME": str(home), "PATH": "/usr/bin:/bin"}
        os.execve(program, [str(program), *argv], environ)  # noqa: S606
    _, status, used = os.wait4(pid, 0)
    assert not list(home.iterdir()), "it left something in the home"
    code = os.waitstatus_to_exitcode(status)
    cpu_s = used.ru_utime + used.ru_stime
    return Ended(code, out.read_text(), err.read_text(), cpu_s, used.ru_maxrss >> 10)


def judge(case: Case, place: Path) -> tuple[Ended, str, bool]:
    """How it ended, what it said first, and whether that was right."""
    results = make_results(place / "results")
    case.spoil(results)
    ended = run([*results.argv(), "--json"], place)
    if case.code != 77 or ended.code != 77:
        said = (ended.err or ended.out).strip().splitlines()
        return ended, said[0] if said else "", ended.code == case.code and case.reason in ended.err
    reasons = json.loads(ended.out)["reasons"]
    fits = [one for one in reasons if one[0].startswith(case.reason)
            and case.subject in ("", one[1])]  # fmt: skip
    return ended, " ".join((fits or reasons)[0][:2]), bool(fits)


def main() -> int:
    if not can_build():
        print("test-verify: skipped: it needs rpmbuild")
        return 0
    started, wrong = time.monotonic(), 0
    print(f"{'what was spoiled':45}  exit  {'seconds':>7}  {'MiB':>4}  what was said")
    with tempfile.TemporaryDirectory() as top:
        place = Path(top, "honest")
        place.mkdir()
        honest = run(make_results(place / "results").argv(), place)
        if honest.code != 0:
            wrong += 1
        print(_row("nothing", honest, honest.out.splitlines()[0]))
        for number, case in enumerate(ALL):
            place = Path(top, str(number))
            place.mkdir()
            ended, said, is_right = judge(case, place)
            wrong += not is_right
            print(_row(case.name, ended, said) + ("" if is_right else "  NOT AS IT SHOULD BE"))
            shutil.rmtree(place)
    print(
        f"test-verify: {len(ALL)} spoiled results, {wrong} not judged as they should be,"
        f" {time.monotonic() - started:.0f} s; each had {CPU_S} s and {MEMORY >> 20} MiB"
    )
    return 1 if wrong else 0


def _row(name: str, ended: Ended, said: str) -> str:
    return f"{name:45}  {ended.code:4}  {ended.cpu_s:7.2f}  {ended.peak_mib:4}  {said[:80]}"


if __name__ == "__main__":
    raise SystemExit(main())
