# SPDX-License-Identifier: GPL-2.0-or-later
"""A command with several packages, whose builds are played: ``DIRECTORY JOBS WORD…``.

A package's name says what becomes of it: fail-N ends with N, wait-X when DIRECTORY/go is there,
noise-X prints much in pieces. Each leaves a package, logs, and a file that says that it began.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from mock_cloud.config.defaults import default_config_opts
from mock_cloud.console import Console
from mock_cloud.exit_status import end_well
from mock_cloud.invocation.model import CommandLine
from mock_cloud.several.at_once import build_several

NODES = 3


def play(top: Path, line: CommandLine, console: Console) -> int:
    (srpm,) = line.args
    name = Path(srpm).name.removesuffix(".src.rpm")
    kind, _, rest = name.partition("-")
    own = Path(line.resultdir or "")
    own.mkdir(exist_ok=True)
    console.info(f"begins in {line.uniqueext}")
    (top / f"began-{name}").write_text(str(os.getpid()))
    with (own / "build.log").open("a") as log:
        log.write(f"{name} one\n{name} two\n")
    if kind == "noise":
        for number in range(300):
            os.write(2, f"{name} says ".encode())
            os.write(2, f"{number} in pieces\n".encode())
        os.write(1, b"no line end \x1b[2J")
    if kind == "killed":
        os.kill(os.getpid(), 9)
    while kind == "wait" and not (top / "go").exists():
        time.sleep(0.02)
    (own / f"{name}.noarch.rpm").write_text(name)
    (own / "remote_provenance.json").write_text(name)
    return int(rest.partition("-")[0]) if kind == "fail" else 0


def main() -> int:
    top, jobs, words = Path(sys.argv[1]), int(sys.argv[2]), tuple(sys.argv[3:])
    opts = default_config_opts()
    opts["root"] = "small"
    opts["resultdir"] = str(top / "results")
    line = CommandLine(jobs=jobs, args=words, resultdir=str(top / "results"))
    console = Console()

    def one(own: CommandLine, its: Console) -> int:
        return play(top, own, its)

    return end_well(console, lambda: build_several(line, opts, NODES, one, console))


if __name__ == "__main__":
    sys.exit(main())
