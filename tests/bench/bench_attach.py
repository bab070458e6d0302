# SPDX-License-Identifier: GPL-2.0-or-later
"""How long `mock-cloud attach` takes until it shows what its job prints; --detach and cancel.

python -m tests.bench.bench_attach [--rtt-ms 0,100] [--rounds N]

From the start of the command, Python's own included, to the first line of the job, over a line of
such a round trip to a warm local node. Twice: while a command in the background follows the job, as
after --detach, and after that command was killed, so that attach must reach the node itself. The
job that is cancelled then ignores SIGTERM. Needs root, as the provider local does.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mock_cloud.cloud.journal import Journal
from tests.lab import chroots, dist, manifest, node, srpm
from tests.lab.http import FileServer
from tests.lab.layout import Lab, default_lab, locked
from tests.lab.relay import Relay

_CLOUD = "from mock_cloud.cli import main; raise SystemExit(main())"
_BUILD = "trap '' TERM\nwhile :; do sleep 1; done\n"
_SAYS = b"Start: rpmbuild"


class Bench:
    """One user, whose node is behind `line` once there is one."""

    def __init__(self, place: Path, config: chroots.ConfigDirectory) -> None:
        self._env = {**os.environ, "XDG_STATE_HOME": str(place / "state")}
        self._config = config
        self.journal = Journal(place / "state/mock-cloud")

    def mock(self, *words: str) -> str:
        argv = [sys.executable, "-m", "mock_cloud.launcher", "--remote", "local"]
        argv += ["--configdir", str(self._config.path), "-r", self._config.chroot(), *words]
        return self._run(argv)

    def cloud(self, *words: str) -> str:
        return self._run([sys.executable, "-c", _CLOUD, *words])

    def _run(self, argv: list[str]) -> str:
        done = subprocess.run(argv, env=self._env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{argv[-1]}: {done.returncode}: {done.stderr}")
        return done.stdout

    def move_node(self, host: str, port: int) -> tuple[str, int]:
        """Have commands reach the only node there; where it was."""
        with self.journal.transaction() as books:
            (lease,) = books.leases()
            assert lease.address is not None
            before = lease.address
            books.write(replace(lease, address=replace(before, host=host, port=port)))
        return before.host, before.port

    def attach(self, job: str) -> float:
        """Seconds until the job's first line; the command is killed then."""
        argv = [sys.executable, "-c", _CLOUD, "attach", job, "--configdir", str(self._config.path)]
        seen = b""
        began_s = time.monotonic()
        with subprocess.Popen(argv, env=self._env, stderr=subprocess.PIPE) as child:
            assert child.stderr is not None
            while _SAYS not in seen:
                piece = os.read(child.stderr.fileno(), 65536)
                if not piece:
                    raise SystemExit(f"attach ended: {seen.decode(errors='replace')}")
                seen += piece
            took_s = time.monotonic() - began_s
            child.kill()
        return took_s

    def kill_follower(self, job: str) -> None:
        found = self.journal.find_job(job)
        assert found is not None
        os.kill(found.holder.pid, signal.SIGKILL)
        while found.holder.alive:
            time.sleep(0.05)


def run(lab: Lab, rtts_ms: Sequence[float], rounds: int) -> None:
    """Print the seconds of both ways, over each line."""
    with locked(lab):
        for make in (dist.build, node.build, manifest.build):
            make(lab)
        recipe = srpm.toy("toy-stubborn", preamble="BuildArch: noarch\n", build=_BUILD)
        package = srpm.build(lab, recipe)
    with tempfile.TemporaryDirectory() as scratch, FileServer({"/dist": lab.dist}) as server:
        place = Path(scratch)
        config = chroots.write(lab, place / "etc", repository_url=f"{server.url}/dist")
        bench = Bench(place, config)
        try:
            bench.mock("--init")
            for rtt_ms in rtts_ms:
                measure(bench, place, package, rtt_ms, rounds)
        finally:
            bench.cloud("release", "--all", "--force")


def measure(bench: Bench, place: Path, package: Path, rtt_ms: float, rounds: int) -> None:
    host, port = bench.move_node("127.0.0.1", 1)
    with Relay((host, port), latency_s=rtt_ms / 2000) as line:
        bench.move_node(*line.address)
        began_s = time.monotonic()
        job = bench.mock("--detach", "--resultdir", str(place / "results"), str(package)).strip()
        tell("mock --detach", rtt_ms, [time.monotonic() - began_s])
        printed = place / f"state/mock-cloud/jobs/{job}.out"
        while _SAYS not in printed.read_bytes():
            time.sleep(0.1)
        tell("followed in the background", rtt_ms, [bench.attach(job) for _ in range(rounds)])
        bench.kill_follower(job)
        tell("its command was killed", rtt_ms, [bench.attach(job) for _ in range(rounds)])
        began_s = time.monotonic()
        bench.cloud("cancel", job, "--configdir", str(place / "etc"))
        tell("cancel", rtt_ms, [time.monotonic() - began_s])
        bench.move_node(host, port)


def tell(how: str, rtt_ms: float, took_s: Sequence[float]) -> None:
    print(
        f"{rtt_ms:g} ms, {how}: {statistics.median(took_s):.2f} s (fastest {min(took_s):.2f}),"
        f" {min(took_s) - rtt_ms / 1000:.2f} beyond one round trip; load {os.getloadavg()[0]:.1f}",
        flush=True,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rtt-ms", default="0,100")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args(arguments)
    run(default_lab(), [float(word) for word in chosen.rtt_ms.split(",")], chosen.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
