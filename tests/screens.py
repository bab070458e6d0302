# SPDX-License-Identifier: GPL-2.0-or-later
"""python -m tests.screens: docs/screen-*.svg, what a user sees on a terminal.

The terminals and all that is drawn are real; what a node says is a script (tests/unit/session), and
so are the jobs of the list: a picture takes seconds, and no root.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyte
from rich.console import Console as Recorder
from rich.text import Text

from mock_cloud.cli.jobs_table import JobsTable
from mock_cloud.cloud.jobs import JobRecord
from mock_cloud.cloud.lease import Holder
from mock_cloud.console import Console
from mock_cloud.errors import LocalDiskFull
from mock_cloud.results import staging
from mock_cloud.session import take_up
from mock_cloud.settings import Budget
from mock_cloud.steps.job.job_list import JobView
from tests.lab.layout import repository_root
from tests.unit.session.scripted_node import ScriptedNode
from tests.unit.session.scripted_place import Place
from tests.unit.terminals import Terminal, said_by_node, terminal

COLUMNS, ROWS = 104, 24
_LOG = """\
gcc -O2 -g -c -o src/hello.o src/hello.c
src/hello.c:42:9: error: implicit declaration of function 'gettext' [-Wimplicit-function]
make[2]: *** [Makefile:1893: src/hello.o] Error 1
make[1]: *** [Makefile:1997: all-recursive] Error 1
error: Bad exit status from /var/tmp/rpm-tmp.a1B2c3 (%build)
"""


def picture(shown: Terminal, name: str, title: str) -> None:
    """What is on the screen now, as docs/screen-NAME.svg."""
    screen = pyte.Screen(COLUMNS, ROWS)
    pyte.ByteStream(screen).feed(shown.data)
    rows = [row for row in range(ROWS) if screen.display[row].strip()]
    with Path(os.devnull).open("w") as null:
        recorder = Recorder(record=True, width=COLUMNS, file=null, force_terminal=True)
        for row in range(rows[0], rows[-1] + 1):
            recorder.print(_line(screen.buffer[row]), soft_wrap=True)
        svg = recorder.export_svg(title=title)
    # Who reads a manual is not to be known to whoever serves fonts.
    text = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    (repository_root() / f"docs/screen-{name}.svg").write_text(text)


def _line(cells: Any) -> Text:
    line = Text()
    row = [cells[column] for column in range(COLUMNS)]
    for (colour, bold), group in itertools.groupby(row, lambda one: (one.fg, one.bold)):
        words = ["bold"] if bold else []
        words += [] if colour == "default" else [colour.replace("brown", "yellow")]
        line.append("".join(cell.data for cell in group), " ".join(words))
    line.rstrip()
    return line


@contextmanager
def place() -> Iterator[Place]:
    """A user with a remote, whose nodes are scripted, and what a price is."""
    path = Path("/tmp/builds")  # it is in the pictures
    path.mkdir(mode=0o700)
    try:
        for name in ("STATE", "CACHE", "CONFIG"):
            os.environ[f"XDG_{name}_HOME"] = f"{path}/{name.lower()}"
        here = Place(path)
        here.enter(setattr)
        here.cloud.price = 0.17
        here.remote = replace(here.remote, budget=Budget(5.0, "USD"))
        here.build()  # keys are made and said once
        yield here
        here.cloud.close()
    finally:
        shutil.rmtree(path)


def main() -> None:
    os.environ["TERM"] = "xterm-256color"
    os.environ.pop("NO_COLOR", None)
    with place() as here:
        command = f"mock -r small --remote cloud {here.srpm.name}"
        script = here.cloud.scripts[0]
        state = b"Start: build phase for tiny-1-1.src.rpm\nStart: rpmbuild tiny-1-1.src.rpm\n"
        script.logs["terminal"] = said_by_node(state)

        def hold(node: ScriptedNode) -> None:
            time.sleep(3)
            picture(shown, "build", command)

        script.while_followed = hold
        with terminal(COLUMNS, ROWS) as shown:
            here.build(console=Console(stream=shown.stream))
        picture(shown, "done", command)
        script.while_followed, script.exit = lambda node: None, 1
        script.logs["build.log"] = _LOG.encode()
        with terminal(COLUMNS, ROWS) as shown:
            here.build(console=Console(stream=shown.stream))
        picture(shown, "failure", command)
        script.logs["build.log"], script.exit = b"+ make\n", 0
        _attach(here)
        _jobs(here)


def _attach(here: Place) -> None:
    """A build's command is gone, and its job is taken up."""

    def leave(*_: object) -> None:
        raise LocalDiskFull("full")

    script = here.cloud.scripts[0]
    with patch.object(staging, "check_space", leave), suppress(LocalDiskFull):
        here.build()
    job, dead = here.journal.jobs()[-1], Holder(1, "another-boot/1")
    with here.journal.transaction() as books:
        books.write(replace(here.lease, holder=dead))
        books.write_job(replace(job, holder=dead))
    end = b"Finish: rpmbuild tiny-1-1.src.rpm\nFinish: build phase for tiny-1-1.src.rpm\n"
    script.logs["terminal"] += said_by_node(end)
    script.while_followed = lambda node: time.sleep(3)
    with terminal(COLUMNS, ROWS) as shown:
        take_up(job, here.remote, Console(stream=shown.stream))
    picture(shown, "attach", f"mock-cloud attach {job.id[-8:]}")


def _jobs(here: Place) -> None:
    os.environ["COLUMNS"] = str(COLUMNS)
    (first, *_) = here.journal.jobs()
    now = time.time()
    views = []
    rows = (
        ("hello-2.12-1", "ended", 71, ""),
        ("bash-5.3-2", "running", 412, "checking for strtoimax... yes"),
        (
            "gcc-15.2-1",
            "running",
            3007,
            "/bin/sh ./libtool --tag=CXX --mode=compile xg++ -c tzdb.cc",
        ),
        ("zlib-1.3-4", "left", 201, ""),
        ("make-4.4-9", "running", 96, "Test timestamp: passed"),
        ("xz-5.8-1", "running", 88, "PASS: test_index"),
        ("gawk-5.3-3", "ended 1", 64, ""),
        ("sed-4.9-5", "running", 51, "  CC       sed/execute.o"),
        ("tar-1.35-6", "running", 40, "configure: creating ./config.status"),
        ("grep-3.12-1", "running", 29, "Package Requires: libc6, libpcre2-8-0"),
        ("dnf5-5.4-1", "starting", 9, ""),
        ("rpm-6.0-2", "starting", 3, ""),
    )
    for number, (name, how, seconds, last) in enumerate(rows):
        place = here.path / name
        place.mkdir()
        (place / "build.log").write_text(f"{last}\n")
        state, _, code = how.partition(" ")
        job: JobRecord = replace(
            first, id=f"20261130-070000-{(number + 1) * 2654435761 % (1 << 32):08x}",
            argv=("--rebuild", f"{name}.src.rpm"), started_unix=now - seconds,
            exit=int(code or 0) if state == "ended" else None, resultdir=str(place),
            ended_unix=now if state == "ended" else None, holder=Holder.me(), logs={},
        )  # fmt: skip
        until = now + 3000 if state in ("running", "left") else None
        views.append(JobView(job, state, until, None if state == "starting" else seconds * 5e-5))
    with terminal(COLUMNS, ROWS) as shown:
        console = Console(stream=shown.stream)
        console.watch(lambda descriptor: JobsTable(lambda: views, descriptor))
        time.sleep(1)
        console.end_watch()
    picture(shown, "jobs", "mock-cloud jobs --watch")


if __name__ == "__main__":
    main()
