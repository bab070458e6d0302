# SPDX-License-Identifier: GPL-2.0-or-later
"""How long `mock-cloud release` keeps its user, and how long nodes need to be gone.

python -m tests.bench.bench_ending [--nodes N] [--files N]

Local nodes, each with a chroot and as many further small files in it as a large build leaves.
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

from tests.lab import chroots, dist, manifest, node
from tests.lab.http import FileServer
from tests.lab.layout import Lab, default_lab, locked

_CLOUD = "from mock_cloud.cli import main; raise SystemExit(main())"
_FILL = "mkdir /builddir/many && cd /builddir/many && seq {files} | xargs touch"


def run(lab: Lab, nodes: int, files: int) -> None:
    """Print the seconds of each way to give `nodes` nodes back."""
    with locked(lab):
        for make in (dist.build, node.build, manifest.build):
            make(lab)
    with tempfile.TemporaryDirectory() as scratch, FileServer({"/dist": lab.dist}) as server:
        place = Path(scratch)
        config = chroots.write(lab, place / "etc", repository_url=f"{server.url}/dist")
        with config.remote_file.open("a") as stream:
            stream.write(f"\n[lease]\nmax_nodes = {nodes}\n")
        env = {**os.environ, "XDG_STATE_HOME": str(place / "state")}
        for count, words in ((1, ()), (nodes, ()), (nodes, ("--no-wait",))):
            _fill(config, env, count, files)
            began_s = time.monotonic()
            argv = [sys.executable, "-c", _CLOUD, "release", "--all", *words]
            done = subprocess.run([*argv, "--configdir", str(config.path)], env=env, check=False)
            returned_s = time.monotonic() - began_s
            while any((place / "state/mock-cloud/nodes").iterdir()):
                time.sleep(0.05)
            gone_s = time.monotonic() - began_s
            print(
                f"release --all {' '.join(words)} of {count} with {files} files each:"
                f" {done.returncode} after {returned_s:.2f} s, gone after {gone_s:.2f} s,"
                f" load {os.getloadavg()[0]:.1f}"
            )


def _fill(config: chroots.ConfigDirectory, env: dict[str, str], count: int, files: int) -> None:
    """So many warm nodes, with a chroot on each."""
    argv = [sys.executable, "-m", "mock_cloud.launcher", "--remote", "local", "-q"]
    argv += ["--configdir", str(config.path), "-r", config.chroot()]
    fill = ["--chroot", _FILL.format(files=files)]
    for words in (["--init"], fill):
        running = [
            subprocess.Popen([*argv, "--uniqueext", str(number), *words], env=env)
            for number in range(count)
        ]
        for one in running:
            if one.wait():
                raise SystemExit(f"{words[0]} ended with {one.returncode}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--files", type=int, default=50_000)
    chosen = parser.parse_args(arguments)
    run(default_lab(), chosen.nodes, chosen.files)
    return 0


if __name__ == "__main__":
    sys.exit(main())
