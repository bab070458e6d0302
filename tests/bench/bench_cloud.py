# SPDX-License-Identifier: GPL-2.0-or-later
"""From the wish for a node to one that may be sent sources, at the lab's EC2 and OpenStack.

The cloud's own time is from the call that makes the instance until its sshd greets, seen from
beside: no client can have it sooner. All else is ours. Cold is a new node, warm the same once more,
each a command of its own; the toolkit is packed.

python -m tests.bench.bench_cloud [--rounds N]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.integration.cloud_support import greets
from tests.lab import dist, manifest, node
from tests.lab.clouds.cloud import Cloud
from tests.lab.clouds.serve import NAMES, make
from tests.lab.layout import Lab, default_lab, locked

LAUNCHES: Final = ("RunInstances", "POST /servers")
PARTS: Final = (
    "before the launch", "the cloud's own boot", "noticing the greeting", "SSH", "toolkit",
    "measuring", "verifying", "hardening",
)  # fmt: skip
_CLOUDS_OWN: Final = PARTS[1]


@dataclass(slots=True)
class Round:
    """One lease. Seconds by part; `calls` are those to the API until the node was usable."""

    parts: dict[str, float] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)

    @property
    def ours_s(self) -> float:
        return sum(value for part, value in self.parts.items() if part != _CLOUDS_OWN)


class Watcher:
    """Notes when the next new node's sshd greets first, by asking it all the time."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._known = {machine.name for machine in cloud.nodes()}
        self._ended = threading.Event()
        self.greeted_unix = 0.0
        self._thread = threading.Thread(target=self._run, name="watcher")
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(0.02):
            for machine in self._cloud.nodes():
                if machine.name not in self._known and greets(machine.address):
                    self.greeted_unix = time.time()
                    return


def lease_once(remote_name: str, configdir: Path) -> dict[str, float]:
    """What a build does until it sends something: unix seconds of each step."""
    marks = {"began": time.time()}
    from mock_cloud.cloud.claim import LeaseRequest
    from mock_cloud.config.remotes import load_remote
    from mock_cloud.console import Console
    from mock_cloud.remote.trusted import trust
    from mock_cloud.steps.attest.hardening import hardened, plan_hardening
    from mock_cloud.steps.attest.known_good_sets import KnownGoods
    from mock_cloud.steps.attest.verdicts import attest
    from mock_cloud.steps.lease.node import begin_use, leased_node, reached

    console = Console(0)
    remote, arch = load_remote(remote_name, configdir), platform.machine()
    use = begin_use(remote, arch, console)
    known = KnownGoods(remote, arch)
    with leased_node(use, LeaseRequest("bench")) as leased:
        marks["leased"] = time.time()
        with reached(use) as use.node:
            use.known = known.of(leased)
            marks["connected"] = time.time()
            attested = attest(use)
            marks["trusted"] = time.time()
            channel = trust(use.node, attested.proof)
            hardening = plan_hardening(remote.provider, leased)
            with closing(channel), hardened(channel, leased, hardening, console):
                marks["usable"] = time.time()
    return {**marks, **attested.verdict.timings_s}


def _round(cloud: Cloud, name: str, place: Path, env: dict[str, str]) -> Round:
    cloud.calls.clear()
    watcher = Watcher(cloud)
    argv = [sys.executable, "-m", "tests.bench.bench_cloud", "--child", name, str(place / "etc")]
    try:
        began_unix = time.time()
        done = subprocess.run(argv, env=env, check=True, stdout=subprocess.PIPE)
    finally:
        watcher.stop()
    marks = json.loads(done.stdout)
    calls = [call for call in cloud.calls if call.started_unix < marks["usable"]]
    launched = next((call.started_unix for call in calls if call.operation in LAUNCHES), 0.0)
    greeted = watcher.greeted_unix
    if launched:
        parts = {
            PARTS[0]: launched - began_unix,
            _CLOUDS_OWN: greeted - launched,
            PARTS[2]: marks["leased"] - greeted,
        }
    else:
        parts = {PARTS[0]: marks["leased"] - began_unix}
    verifying_s = marks["trusted"] - marks["connected"] - marks["toolkit"] - marks["measure"]
    parts |= {
        "SSH": marks["connected"] - marks["leased"],
        "toolkit": marks["toolkit"],
        "measuring": marks["measure"],
        "verifying": verifying_s,
        "hardening": marks["usable"] - marks["trusted"],
    }
    return Round(parts, [call.operation for call in calls])


def _print(title: str, rounds: Sequence[Round]) -> None:
    print(f"{title}, {len(rounds)} rounds, seconds, median (min to max)")
    for part in PARTS:
        values = [one.parts[part] for one in rounds if part in one.parts]
        if values:
            print(f"  {part:24} {_spread(values)}")
    print(f"  {'ours, all together':24} {_spread([one.ours_s for one in rounds])}")
    counts = [len(one.calls) for one in rounds]
    print(f"  {'API calls':24} {statistics.median(counts):6.0f} ({min(counts)} to {max(counts)})")
    print(f"  the last round's: {', '.join(rounds[-1].calls) or 'none'}")


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):6.2f} ({min(values):.2f} to {max(values):.2f})"


def run(lab: Lab, rounds: int) -> None:
    """Print the figures of `rounds` cold leases, and as many warm ones, at each cloud."""
    with locked(lab):
        for build in (dist.build, node.build, manifest.build):
            build(lab)
    print(f"load {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores")
    for name in NAMES:
        with (
            tempfile.TemporaryDirectory(prefix="bench-cloud-") as scratch,
            make(name, lab) as cloud,
        ):
            _measure(cloud, name, Path(scratch), rounds)


def _measure(cloud: Cloud, name: str, place: Path, rounds: int) -> None:
    cloud.write_config(place / "etc")
    env = {**os.environ, "XDG_STATE_HOME": str(place / "s"), "XDG_CACHE_HOME": str(place / "c")}
    env |= dict(setting.split("=", 1) for setting in cloud.environment(place / "etc"))
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    release = "from mock_cloud.cli import main; raise SystemExit(main())"
    words = (sys.executable, "-c", release, "release", "--all", "--configdir", str(place / "etc"))
    cold, warm = [], []
    for number in range(rounds + 1):
        try:
            first = _round(cloud, name, place, env)
            second = _round(cloud, name, place, env)
        finally:
            subprocess.run(words, env=env, check=True, stderr=subprocess.DEVNULL)
        if number:  # the first one packs the toolkit and fetches the packages' headers
            cold.append(first)
            warm.append(second)
    _print(f"{name}, cold", cold)
    _print(f"{name}, warm", warm)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child", nargs=2, metavar=("REMOTE", "CONFIGDIR"), help="one lease")
    given = parser.parse_args(arguments)
    if given.child:
        print(json.dumps(lease_once(given.child[0], Path(given.child[1]))))
        return 0
    run(default_lab(), given.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
