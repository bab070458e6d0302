# SPDX-License-Identifier: GPL-2.0-or-later
"""`make demo-survive`: a line is cut under a build, its command is killed, it is attached again.

The machine is one that somebody lends, behind a relay that can break the line. All else that is
shown is done by the commands it prints.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.lab import srpm
from tests.lab.demo import Show
from tests.lab.layout import Lab, LabError
from tests.lab.relay import Relay
from tests.lab.volunteers import Volunteer, Volunteers

_OURS = "var/lib/mock-cloud"
_TICKS = 30
_CUT_S = 5.0
_PATIENCE_S = 120.0
_TICK = re.compile(r"^tick (\d+)$", re.MULTILINE)


def perform(lab: Lab, own_srpm: Path | None, place: Path) -> None:
    """Run the demonstration in `place`. LabError at the first thing that is not as it should be."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    source = own_srpm if own_srpm is not None else srpm.build(lab, srpm.sleeping(_TICKS))
    package = Path(shutil.copy(source, place))
    with ExitStack() as stack:
        volunteers = stack.enter_context(Volunteers(lab, place))
        alpha = volunteers.alpha
        line = stack.enter_context(Relay((alpha.machine.address, 22)))
        config = volunteers.write_config(place / "etc" / "mock")
        host, port = line.address
        way = f'port = {port}\nidentity = "{volunteers.user_key}"'
        volunteers.write_remote(config, "lent", alpha.table(address=host, more=way))
        show = Show(place, config)
        stack.callback(show.quietly, "mock-cloud", "release", "--all", "--force")
        _break(show, package, line)
        job = _find_left(show, place)
        _attach(show, job, place, has_ticks=own_srpm is None)
        _give_back(show, alpha)


def _break(show: Show, package: Path, line: Relay) -> None:
    show.heading(f"While a package is built on a lent machine its line is cut, for {_CUT_S:.0f} s.")
    show.heading("When that is survived the command is killed.")
    log = show.place / "results/build.log"

    def trouble(command: subprocess.Popen[str]) -> None:
        _await(lambda: log.exists() and "%build" in log.read_text(errors="replace"))
        print("(the line is cut)", flush=True)
        line.refuse()
        line.cut()
        time.sleep(_CUT_S)
        line.refuse(False)
        print("(it could be used again)", flush=True)
        size = log.stat().st_size
        _await(lambda: log.stat().st_size > size)
        print(f"$ kill -9 {command.pid}", flush=True)
        command.kill()

    show.run(*show.mock("lent", "results", package), expect=-signal.SIGKILL, beside=trouble)


def _find_left(show: Show, place: Path) -> str:
    show.heading("The build goes on by itself. Nothing of it is lost, and what it costs is said.")
    show.run("mock-cloud", "jobs")
    (job,) = json.loads(show.output("mock-cloud", "jobs", "--json"))
    if job["state"] != "left" or list((place / "results").glob("*.rpm")):
        raise LabError(f"the job is {job['state']}, not left")
    return str(job["job"])


def _attach(show: Show, job: str, place: Path, *, has_ticks: bool) -> None:
    show.heading("It is taken up where its logs end here.")
    show.run("mock-cloud", "attach", job, "--configdir", str(show.config.path))
    show.run("ls", "results")
    show.run("mock-cloud", "verify", "results")
    if has_ticks:
        ticks = _TICK.findall((place / "results/build.log").read_text())
        if ticks != [str(number) for number in range(1, _TICKS + 1)]:
            raise LabError(f"build.log has not each line once: {ticks}")
        print(f"(build.log has each of the {_TICKS} lines that %build printed, once)")


def _give_back(show: Show, lent: Volunteer) -> None:
    show.heading("The machine is given back; what is left on it and here:")
    show.run("mock-cloud", "release", "--all")
    place = lent.root / _OURS
    files = list(place.iterdir()) if place.is_dir() else []
    running = [exe for exe in _programs(lent) if exe.startswith(f"/{_OURS}")]
    leases = json.loads(show.output("mock-cloud", "nodes", "--json"))
    jobs = json.loads(show.output("mock-cloud", "jobs", "--json"))
    print(f"(files there: {len(files)}, processes: {len(running)};", end="")
    print(f" leases here: {len(leases)}, jobs: {len(jobs)})")
    if files or running or leases or jobs:
        raise LabError(f"something was left: {files} {running} {leases} {jobs}")


def _programs(lent: Volunteer) -> list[str]:
    """What runs on the machine: each process's program."""
    space = Path(f"/proc/{lent.machine.init_pid}/ns/pid").readlink()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (entry / "ns/pid").readlink() == space:
                found.append(str((entry / "exe").readlink()))
    return found


def _await(is_so: Callable[[], bool]) -> None:
    """What runs beside ends by itself: the command does, and that is not as it was expected."""
    until = time.monotonic() + _PATIENCE_S
    while not is_so() and time.monotonic() < until:
        time.sleep(0.05)
