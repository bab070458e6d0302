# SPDX-License-Identifier: GPL-2.0-or-later
"""`make demo-koji`: a Koji of one's own, whose builders build on attested nodes.

Everything it shows is done by the commands it prints; nothing is left running.
"""

from __future__ import annotations

import shlex
import time
from pathlib import Path

from tests.lab import srpm
from tests.lab.clouds.ec2 import Ec2Cloud
from tests.lab.layout import Lab, LabError
from tests.real_koji.system import VICTIM, RealKoji, run_koji

AT_ONCE = 6
_LAST_LINES = 8


def perform(lab: Lab) -> None:
    """Run the demonstration. LabError at the first thing that is not as it should be."""
    cloud = Ec2Cloud(lab)
    cloud.prepare()
    began_s = time.monotonic()
    with cloud:
        with run_koji(cloud) as koji:
            _heading("A Koji of one's own: a hub, kojira, two builders. They have no node yet.")
            _show(koji, "list-hosts", "--quiet")
            _build(koji, _hello(koji, lab))
            package = srpm.build(lab, srpm.plain())
            _build_several(koji, package)
            _refuse(koji, package)
            _count(koji)
        left = cloud.listing()
    print(f"\n# Done in {time.monotonic() - began_s:.0f} s. Nothing runs any more;", end="")
    print(f" the cloud lists {len(left.instances)} instances.")
    if left.instances:
        raise LabError(f"something was left in the cloud: {left}")


def _hello(koji: RealKoji, lab: Lab) -> str:
    try:
        return koji.make_repository(srpm.hello(lab))
    except LabError as error:  # its upstream source cannot be had
        print(f"({error.message}; a toy instead)")
        return koji.make_repository(srpm.toy("toy-scm", preamble="BuildArch: noarch\n"))


def _build(koji: RealKoji, url: str) -> None:
    _heading("A build from a git repository; each of its two chroots is on an attested node.")
    task = _submit(koji, "build", "--nowait", "--noprogress", "lab", url)
    koji.wait_for_child(task, "buildArch")
    arch = koji.child(task, "buildArch")["id"]
    _show(koji, "watch-logs", "--log", "build.log", str(arch), last=_LAST_LINES)
    koji.expect(task)
    _show(koji, "list-tagged", "lab")
    log = koji.logs(arch)["remote_attestation.log"]
    _heading("The verdict under which it was built is one of its logs at the hub.")
    print("\n".join(log.splitlines()[:9]))


def _build_several(koji: RealKoji, package: Path) -> None:
    _heading(f"{AT_ONCE} builds at once.")
    words = ("build", "--scratch", "--nowait", "--noprogress", "lab", package.name)
    print(f"$ for n in $(seq {AT_ONCE}); do koji {shlex.join(words)}; done", flush=True)
    began_s = time.monotonic()
    tasks = [koji.build(package, "--scratch") for _ in range(AT_ONCE)]
    koji.expect(*tasks)
    print(f"({AT_ONCE} builds: {time.monotonic() - began_s:.0f} s)")


def _refuse(koji: RealKoji, package: Path) -> None:
    _heading(f"At b2.lab nodes now boot an image with one byte changed in /{VICTIM}.")
    koji.release()
    koji.tamper("b2.lab")
    koji.only("b2.lab")
    print("$ koji disable-host b1.lab")
    task = koji.build(package, "--scratch")
    print(f"$ koji build --scratch --noprogress lab {package.name}")
    if koji.wait(task) != ["FAILED"]:
        raise LabError(f"a tampered node was not refused\n{koji.tell(task)}")
    failed = koji.child(task, "rebuildSRPM")["id"]
    print(koji.error(failed).strip().splitlines()[-1])
    place = koji.place / "downloaded"
    print(f"$ koji download-logs {failed}")
    koji.koji("download-logs", "--dir", place, str(failed))
    for name, last in (("root.log", 2), ("remote_order.log", 4)):
        (log,) = place.rglob(name)
        print(f"$ tail -n {last} {log.relative_to(place)}")
        print("\n".join(log.read_text().splitlines()[-last:]))
    koji.enable("b1.lab", "b2.lab")


def _count(koji: RealKoji) -> None:
    calls = koji.cloud.calls
    _heading("How many nodes that took; what Koji's own records say.")
    print(f"(nodes asked of the cloud: {calls.count('RunInstances')}, one of them refused)")
    _show(koji, "list-tasks", "--after", "2000-01-01", "--method", "build", "--all")


def _heading(text: str) -> None:
    print(f"\n# {text}", flush=True)


def _submit(koji: RealKoji, *words: str) -> int:
    print(f"$ koji {shlex.join(words)}", flush=True)
    task = koji.submit(*words)
    print(f"Created task: {task}")
    return task


def _show(koji: RealKoji, *words: str, last: int = 0) -> None:
    """Run and show a command; of its output at most the last lines, if `last` says so."""
    print(f"$ koji {shlex.join(words)}" + (f" | tail -n {last}" if last else ""), flush=True)
    text = koji.koji(*words)
    lines = text.rstrip().splitlines()
    print("\n".join(lines[-last:] if last else lines), flush=True)
