# SPDX-License-Identifier: GPL-2.0-or-later
"""A warm build of hello on a warm local node: wall time beyond what rpmbuild itself takes.

python -m tests.bench.bench_build [--rounds N]
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tests.lab import chroots, dist, manifest, node, srpm
from tests.lab.http import FileServer
from tests.lab.layout import Lab, default_lab, locked

_RELEASE = "from mock_cloud.cli import main; raise SystemExit(main(['release', '--all']))"
_STATE = re.compile(r"(\S+ [\d:]+),(\d{3}) - (Start|Finish): (.*)")


@dataclass(frozen=True, slots=True)
class Round:
    """One build, in seconds: wall clock of the command, rpmbuild's part, the node's part."""

    wall_s: float
    rpmbuild_s: float
    node_s: float
    measure_s: float


def _durations(state_log: str) -> dict[str, float]:
    """Seconds between Start and Finish of each state of the last run in the log."""
    started: dict[str, float] = {}
    took: dict[str, float] = {}
    for stamp, milliseconds, kind, state in _STATE.findall(state_log):
        at = datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S").timestamp() + int(milliseconds) / 1000
        if kind == "Start":
            started[state] = at
        else:
            took[state] = at - started[state]
    return took


def _build(command: Sequence[str], env: dict[str, str], results: Path) -> Round:
    began_s = time.monotonic()
    subprocess.run(command, env=env, check=True, stdin=subprocess.DEVNULL)
    wall_s = time.monotonic() - began_s
    took = _durations((results / "state.log").read_text())
    verdict = (results / "remote_attestation.log").read_text()
    measured = re.search(r"time: measure ([\d.]+) s", verdict)
    return Round(
        wall_s,
        sum(value for state, value in took.items() if state.startswith("rpmbuild ")),
        took["run"],
        float(measured[1]) if measured else 0.0,
    )


def run(lab: Lab, rounds: int) -> None:
    """Print the figures of `rounds` warm builds after two that warm up."""
    with locked(lab):
        for make in (dist.build, node.build, manifest.build):
            make(lab)
        package = srpm.build(lab, srpm.hello(lab))
    with tempfile.TemporaryDirectory() as scratch, FileServer({"/dist": lab.dist}) as server:
        place = Path(scratch)
        config = chroots.write(lab, place / "mock", repository_url=f"{server.url}/dist")
        env = {**os.environ, "XDG_STATE_HOME": scratch}
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        python = (sys.executable, "-m")
        options = ("--configdir", str(config.path), "-r", config.chroot(), "--remote", "local")
        results = place / "out"
        command = (*python, "mock_cloud.launcher", *options, "-q", "--resultdir", str(results))
        try:
            for _ in range(2):
                subprocess.run([*command, str(package)], env=env, check=True)
            made = [_build([*command, str(package)], env, results) for _ in range(rounds)]
        finally:
            subprocess.run([sys.executable, "-c", _RELEASE], env=env, check=True)
    print(f"warm build of {package.name} on a warm local node, {rounds} rounds, seconds")
    for name, values in {
        "wall": [one.wall_s for one in made],
        "rpmbuild on the node": [one.rpmbuild_s for one in made],
        "beyond rpmbuild": [one.wall_s - one.rpmbuild_s for one in made],
        "of it on the node": [one.node_s - one.rpmbuild_s for one in made],
        "of it measuring": [one.measure_s for one in made],
    }.items():
        low, middle, high = min(values), statistics.median(values), max(values)
        print(f"  {name:22} median {middle:6.2f}   min {low:6.2f}   max {high:6.2f}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    run(default_lab(), parser.parse_args(arguments).rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
