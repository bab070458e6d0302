# SPDX-License-Identifier: GPL-2.0-or-later
"""A chain of twelve small packages on one node, and with --jobs on four.

python -m tests.bench.bench_chain [--seconds N]

Each package takes so many seconds of no processor, so that the order is measured and not how
many cores this machine has for four nodes. Needs root, as the provider local does.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.lab import chroots, dist, manifest, node, srpm
from tests.lab.http import FileServer
from tests.lab.layout import Lab, default_lab, locked

_CLOUD = "import sys; from mock_cloud.cli import main; raise SystemExit(main(sys.argv[1:]))"
_NODES = 4


def run(lab: Lab, seconds: int) -> None:
    """Print how long each took, and the ratio. What they built is compared."""
    with locked(lab):
        for make in (dist.build, node.build, manifest.build):
            make(lab)
        packages = [srpm.build(lab, recipe) for recipe in srpm.twelve(f"sleep {seconds}")]
    with tempfile.TemporaryDirectory() as scratch, FileServer({"/dist": lab.dist}) as server:
        place = Path(scratch)
        config = chroots.write(lab, place / "etc", repository_url=f"{server.url}/dist")
        with config.remote_file.open("a") as stream:
            stream.write(f"\n[lease]\nmax_nodes = {_NODES}\n")
        env = {**os.environ, "XDG_STATE_HOME": str(place / "state")}
        mock = [sys.executable, "-m", "mock_cloud.launcher", "--configdir", str(config.path),
                "-r", config.chroot(), "--remote", "local", "-q", "--chain"]  # fmt: skip
        cloud = [sys.executable, "-c", _CLOUD]
        took: dict[int, float] = {}
        try:
            for jobs in (1, _NODES):
                began_s = time.monotonic()
                place_of = ["--localrepo", str(place / str(jobs)), "--jobs", str(jobs)]
                subprocess.run([*mock, *place_of, *packages], env=env, check=True)
                took[jobs] = time.monotonic() - began_s
            repositories = [place / str(jobs) / "results" / config.chroot() for jobs in took]
            subprocess.run([*cloud, "compare", *repositories], env=env, check=True)
        finally:
            subprocess.run([*cloud, "release", "--all"], env=env, check=True)
    print(f"a chain of {len(packages)}, {seconds} s each, load {os.getloadavg()[0]:.1f}")
    for jobs, wall_s in took.items():
        print(f"  --jobs {jobs}: {wall_s:6.1f} s   {wall_s / took[1]:4.2f} of one node's time")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=10)
    run(default_lab(), parser.parse_args(arguments).seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
