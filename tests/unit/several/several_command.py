# SPDX-License-Identifier: GPL-2.0-or-later
"""A command with several packages, whose builds are played.

With --chain, and perhaps --continue or --recurse, it is a chain: needs-X-Y fails without Y.
A package's name says what becomes of it: fail-N ends with N, wait-X when DIRECTORY/go is there,
noise-X prints much in pieces, garbage-X leaves what is no package. Each leaves a package, logs, and
a file that says that it began.
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
from mock_cloud.several.chain_at_once import build_chain
from tests.unit.signed.package_maker import package_file

NODES = 3


def play(top: Path, line: CommandLine, console: Console) -> int:
    if line.mode == "chain":
        metadata = Path(line.localrepo or "") / "results/small/repodata"
        metadata.mkdir(exist_ok=True)
        (metadata / "repomd.xml").touch()
        return 0
    (srpm,) = line.args
    name = Path(srpm).name.removesuffix(".src.rpm")
    kind, _, rest = name.partition("-")
    own = Path(line.resultdir or "")
    own.mkdir(exist_ok=True)
    console.info(f"begins in {line.uniqueext}")
    (own / "pid").write_text(str(os.getpid()))
    (own / "pid").rename(top / f"began-{name}")  # whoever sees it sees all of it
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
    if kind == "needs":
        lacks = not any(one.split("-")[1] == rest.split("-")[1] for one in line.built)
        kind, rest = ("fail", "1") if lacks else (kind, rest)
    made = b"no package" if kind == "garbage" else package_file(name, b"p", [])
    (own / f"{name}.noarch.rpm").write_bytes(made)
    (top / f"saw-{name}").write_text(" ".join(line.built))
    (own / "remote_provenance.json").write_text(name)
    return int(rest.partition("-")[0]) if kind == "fail" else 0


def start(top: Path, jobs: int, all_words: list[str], out: Path, err: Path) -> None:
    """The command in this process, which gets a process group of its own, as a shell's has."""
    os.setsid()
    for number, path in ((1, out), (2, err)):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.exit(_run(top, jobs, all_words))


def _run(top: Path, jobs: int, all_words: list[str]) -> int:
    options = {word for word in all_words if word.startswith("--")}
    words = tuple(word for word in all_words if word not in options)
    opts = default_config_opts()
    opts["root"] = "small"
    opts["resultdir"] = str(top / "results")
    opts["chroot_name"] = "small"
    line = CommandLine(jobs=jobs, args=words, resultdir=str(top / "results"))
    if options:
        line = CommandLine(
            mode="chain",
            jobs=jobs,
            args=words,
            localrepo=str(top),
            recurse="--recurse" in options,
            cont=bool(options & {"--continue", "--recurse"}),
        )
    console = Console()

    def one(own: CommandLine, its: Console) -> int:
        return play(top, own, its)

    build = build_chain if options else build_several
    return end_well(console, lambda: build(line, opts, NODES, one, console))
