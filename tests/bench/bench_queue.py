# SPDX-License-Identifier: GPL-2.0-or-later
"""What commands that wait for a node cost, and one command with many packages on many nodes.

python -m tests.bench.bench_queue [--tickets N] [--waiting N …] [--packages N] [--nodes N]
                                  [--seconds S]

The waiting ones are real commands in front of a remote whose only node another process has. The
many nodes are simulated in the processes that build on them: SSH, frames, verdicts, journal and
results are the real ones, a build sleeps for S seconds. So their figures are of both ends. Memory
is what processes have for themselves and their share of what they share (PSS). No more is begun
than --limit-mib allows.
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from mock_cloud.cloud.claim import LeaseRequest
from mock_cloud.cloud.journal import Journal
from mock_cloud.cloud.lease import Holder, Lease, LeaseState
from mock_cloud.cloud.pool import _CLAIM_AT_LEAST_EVERY_S, _LOOK_AT_LEAST_EVERY_S, _Turn
from mock_cloud.config.chroots import load_config_opts
from mock_cloud.config.overrides import apply_command_line
from mock_cloud.console import Console
from mock_cloud.invocation.model import CommandLine
from mock_cloud.invocation.parser import parse_command_line
from mock_cloud.session import run as build
from mock_cloud.settings import AttestSettings, LeaseLimits, Remote
from mock_cloud.several.at_once import build_several
from mock_cloud.wire.rpmheader import Tag
from tests.lab import chroots, dist, manifest, node, srpm
from tests.lab.layout import Lab, default_lab, locked
from tests.unit.cloud.cloud_in_memory import lease_of
from tests.unit.session.scripted_node import Script, ScriptedNode
from tests.unit.session.scripted_place import PACKAGE, Place
from tests.unit.signed.package_maker import numbers, package_file

_TICKS = os.sysconf("SC_CLK_TCK")
_LOOK_S = 20.0


@dataclass
class Cost:
    """Memory of a group of processes, and its processor time until now."""

    pids: Callable[[], Sequence[int]]
    limit_mib: int
    peak_mib: float = 0.0
    _over: threading.Event = field(default_factory=threading.Event)

    def used_s(self) -> float:
        """Processor seconds of those that live, with what their own children used."""
        return sum(map(_used_s, self.pids()))

    def sample(self) -> float:
        """MiB now; noted if it is the most so far. SystemExit beyond the limit."""
        now = sum(map(_pss_mib, self.pids()))
        self.peak_mib = max(self.peak_mib, now)
        if now > self.limit_mib:
            raise SystemExit(f"{now:.0f} MiB: more than --limit-mib")
        return now


def _used_s(pid: int) -> float:
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(int(fields[number]) for number in (11, 12, 13, 14)) / _TICKS
    return 0.0


def _pss_mib(pid: int) -> float:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0


def measure_waiting(lab: Lab, counts: Sequence[int], limit_mib: int) -> None:
    """Print what so many commands cost that wait for the only node."""
    with locked(lab):
        for make in (dist.build, node.build, manifest.build):
            make(lab)
        package = srpm.build(lab, srpm.plain())
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        config = chroots.write(lab, place / "etc", repository_url="http://lab.invalid/dist")
        with config.remote_file.open("a") as stream:
            stream.write("\n[lease]\nmax_nodes = 1\n")
        state = place / "state/mock-cloud"
        _hold_only_node(Journal(state))
        env = {**os.environ, "XDG_STATE_HOME": str(place / "state")}
        argv = [sys.executable, "-m", "mock_cloud.launcher", "--remote", "local", "-q"]
        argv += ["--configdir", str(config.path), "-r", config.chroot(), "--rebuild", str(package)]
        running: list[subprocess.Popen[bytes]] = []
        cost = Cost(lambda: [one.pid for one in running], limit_mib)
        try:
            for count in counts:
                began_s, before_s = time.monotonic(), cost.used_s()
                while len(running) < count:
                    words = ["--uniqueext", str(len(running)), "--resultdir", str(place / "out")]
                    words[-1] += str(len(running))
                    running.append(
                        subprocess.Popen([*argv, *words], env=env, stderr=subprocess.DEVNULL)
                    )
                    while _waiting(state) < len(running) - 4:
                        time.sleep(0.05)
                    cost.sample()
                while _waiting(state) < count:
                    time.sleep(0.1)
                until_s, began_used_s = time.monotonic() - began_s, cost.used_s()
                time.sleep(_LOOK_S)
                used_s, mib = cost.used_s() - began_used_s, cost.sample()
                print(
                    f"{count} commands wait: {mib:.0f} MiB, {mib / count:.1f} each;"
                    f" {100 * used_s / _LOOK_S:.1f} % of a core,"
                    f" {100 * used_s / _LOOK_S / count:.2f} each; until they did:"
                    f" {until_s:.0f} s, {began_used_s - before_s:.1f} s of the processor;"
                    f" load {os.getloadavg()[0]:.1f}",
                    flush=True,
                )
        finally:
            for one in running:
                one.send_signal(signal.SIGTERM)
            for one in running:
                one.wait()


def _hold_only_node(journal: Journal) -> None:
    """A lease that this process has, as a command at work has one."""
    now = time.time()
    lease = Lease(
        id="held", remote="local", owner=journal.owner, provider="none", settings="",
        state=LeaseState.BUSY, created_unix=now, expires_unix=now + 86400, idle_ttl_s=86400.0,
        builds=1, chroot="another", holder=Holder.me(), arch=os.uname().machine,
    )  # fmt: skip
    with journal.transaction() as books:
        books.write(lease)


def _waiting(state: Path) -> int:
    with Journal(state).transaction() as books:
        queue = books.queue("local", os.uname().machine)
        return queue.count_ahead(None)


def measure_looks(tickets: int, nodes: int) -> None:
    """Print what the last of so many that wait pays for a look, and for a claim, in a journal."""
    with tempfile.TemporaryDirectory() as scratch:
        journal = Journal(Path(scratch))
        busy = lease_of(journal.owner, "l", state=LeaseState.BUSY, holder=Holder.me(), arch="any")
        with journal.transaction() as books:
            for number in range(nodes):
                books.write(replace(busy, id=f"l{number}", chroot=f"c{number}"))
            queue = books.queue(busy.remote, "any")
            last = [queue.wait(None) for _ in range(tickets)][-1]
        attest = AttestSettings(Path("/none"), (), ())
        remote = Remote(busy.remote, "ec2", ("any",), attest, lease=LeaseLimits(max_nodes=nodes))
        request = LeaseRequest(
            "mine", "any", fresh=True, remote=busy.remote, owner=journal.owner, max_nodes=nodes
        )
        turn = _Turn(journal, remote, request, print, _ticket=last)
        look_s = _each_s(lambda: journal.count_ahead(last), 200)
        claim_s = _each_s(turn.claim, 20)
        share = tickets * (look_s / _LOOK_AT_LEAST_EVERY_S + claim_s / _CLAIM_AT_LEAST_EVERY_S)
        print(
            f"{tickets} wait for {nodes} nodes: a look {1000 * look_s:.2f} ms, a claim"
            f" {1000 * claim_s:.1f} ms; all of them {100 * share:.1f} % of a core"
        )


def _each_s(act: Callable[[], object], times: int) -> float:
    began_s = time.process_time()
    for _ in range(times):
        act()
    return (time.process_time() - began_s) / times


def measure_wide(packages: int, nodes: int, seconds: float, limit_mib: int) -> None:
    """Print what one command costs that builds so many packages on so many simulated nodes."""
    with tempfile.TemporaryDirectory() as scratch, pytest.MonkeyPatch.context() as patch:
        path = Path(scratch)
        for name in ("STATE", "CACHE", "CONFIG"):
            patch.setenv(f"XDG_{name}_HOME", str(path / name.lower()))
        place = Place(path)
        place.enter(patch.setattr)
        place.remote = replace(place.remote, lease=LeaseLimits(max_nodes=nodes, idle_ttl_s=0))
        words = ["--configdir", str(place.etc), "-r", "small", "--resultdir", str(place.results)]
        sources = []
        for number in range(packages):
            source = path / f"tiny{number}-1-1.src.rpm"
            flags = [numbers(Tag.SOURCEPACKAGE, [1])]
            source.write_bytes(package_file(f"tiny{number}", b"payload", flags))
            sources.append(str(source))

        def hold(_node: ScriptedNode) -> None:
            time.sleep(seconds)

        result = {PACKAGE: package_file("tiny", b"payload", [])}
        place.cloud.scripts = [Script(results=result, while_followed=hold)]
        line = parse_command_line([*words, "--jobs", str(nodes), "--rebuild", *sources], {})

        def build_one(own: CommandLine, console: Console) -> int:
            opts = load_config_opts("small", place.etc, home=place.etc)
            apply_command_line(opts, own)
            return build(own, opts, place.remote, console)

        opts = load_config_opts("small", place.etc, home=place.etc)
        apply_command_line(opts, line)
        cost = Cost(_family, limit_mib)
        began_s = time.monotonic()
        with _sampled(cost):
            screen = io.StringIO()
            code = build_several(line, opts, nodes, build_one, Console(stream=screen))
        if code:
            print("".join(one for one in screen.getvalue().splitlines(True) if "ERROR" in one))
        took_s = time.monotonic() - began_s
        used = os.times()
        used_s = used.user + used.system + used.children_user + used.children_system
        parent = _pss_mib(os.getpid())
        print(
            f"{packages} packages on {nodes} nodes, {seconds:g} s each: {code} after {took_s:.0f} s"
            f" (at best {seconds * packages / nodes:.0f}); {used_s / packages:.2f} s of the"
            f" processor each, {used_s / took_s:.2f} cores; at most {cost.peak_mib:.0f} MiB,"
            f" {parent:.0f} of which the command's own; load {os.getloadavg()[0]:.1f}"
        )


@contextmanager
def _sampled(cost: Cost) -> Iterator[None]:
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(1.0):
            cost.sample()

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _family() -> list[int]:
    own = os.getpid()
    found = [own]
    for task in Path(f"/proc/{own}/task").iterdir():
        with suppress(OSError):
            found += map(int, (task / "children").read_text().split())
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--waiting", type=int, nargs="*", default=[25, 50, 100])
    parser.add_argument("--tickets", type=int, default=1000)
    parser.add_argument("--packages", type=int, default=200)
    parser.add_argument("--nodes", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--limit-mib", type=int, default=6000)
    chosen = parser.parse_args(arguments)
    if chosen.tickets:
        measure_looks(chosen.tickets, chosen.nodes)
    if chosen.waiting:
        measure_waiting(default_lab(), chosen.waiting, chosen.limit_mib)
    if chosen.packages:
        measure_wide(chosen.packages, chosen.nodes, chosen.seconds, chosen.limit_mib)
    return 0


if __name__ == "__main__":
    sys.exit(main())
