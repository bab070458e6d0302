# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds on six nodes to which all happens that may: each ends rightly, and nothing is left.

`make soak MINUTES=10 SEED=…`. Lines are cut and freeze; controllers, nodes and agents are killed
with -9; an API fails; resultdirs are full; clocks are set. The seed is printed, and repeats what
is done, as far as two processors repeat anything.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.integration.conftest import Ended
from tests.lab import srpm
from tests.lab.http import FileServer
from tests.lab.layout import Lab
from tests.lab.srpm import Recipe
from tests.soak.fleets import Fleet, fleets

pytestmark = [pytest.mark.lab, pytest.mark.soak]

_MINUTES = float(os.environ.get("MOCK_CLOUD_SOAK_MINUTES", "10"))
_AT_ONCE = 4
_TICKS = 6
_BUILD_S = 900.0  # of what hangs
_TICK = re.compile(r"^tick (\d+)$", re.MULTILINE)
_ATTEMPT = re.compile(r"^mock-cloud: attempt \d+ ended", re.MULTILINE)
_RETRYABLE = 75


@dataclass
class Tally:
    """What was done and what came of it."""

    ends: Counter[str] = field(default_factory=Counter)
    troubles: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, counter: Counter[str], what: str) -> None:
        with self.lock:
            counter[what] += 1


@dataclass
class Build:
    """One package on one fleet, until it has ended, whoever is killed meanwhile."""

    fleet: Fleet
    package: Path
    code: int
    place: Path
    number: int
    chance: random.Random
    tally: Tally
    has_small_disk: bool = False

    def run(self) -> None:
        results = self.place / f"results-{self.number}"
        results.mkdir()
        if self.has_small_disk:
            self._mount(results, "1m")
        try:
            self._check(self._end(results), results)
        finally:
            if self.has_small_disk:
                subprocess.run(["umount", "-l", str(results)], check=True)

    def _end(self, results: Path) -> Ended:
        """The command, killed now and then; after that typed again, or attached, to its end."""
        user, remote = self.fleet.user, self.fleet.remote
        words = ("--remote", remote, "--uniqueext", f"n{self.number}", "--resultdir", str(results))
        argv = user.argv(*words, str(self.package))
        attach = ""
        for life in range(8):
            if attach:
                configdir = str(user.config.path)
                argv = [argv[0], "-c", _CLOUD, "attach", attach, "--configdir", configdir]
            ended = self._started(argv, may_be_killed=life < 3)
            if ended.code == _RETRYABLE and f"the disk {results}" in ended.stderr:
                self.tally.note(self.tally.troubles, "a resultdir's disk full")
                self._mount(results, "remount,size=64m")
                attach = attach or self._job(results)
            elif ended.code != -signal.SIGKILL:
                return ended
            else:
                self.tally.note(self.tally.troubles, "kill -9 of a controller")
                # Typed again it takes up the same job, if there is one.
                attach = self._job(results) if self.chance.random() < 0.5 else ""
        raise AssertionError("it does not come to an end")

    def _started(self, argv: list[str], *, may_be_killed: bool) -> Ended:
        log = self.place / f"printed-{self.number}"
        with log.open("ab") as printed:
            begin = printed.tell()
            process = subprocess.Popen(
                argv, env=self.fleet.user.environment, cwd=self.fleet.user.place,
                stdin=subprocess.DEVNULL, stdout=printed, stderr=printed,
            )  # fmt: skip
            try:
                if may_be_killed and self.chance.random() < 0.3:
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(self.chance.uniform(1, 60))
                        return self._ended(argv, process, log, begin)
                    process.kill()
                process.wait(_BUILD_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise AssertionError(
                    f"it hangs: {log.read_text(errors='replace')[-3000:]}"
                ) from None
        return self._ended(argv, process, log, begin)

    @staticmethod
    def _ended(argv: list[str], process: subprocess.Popen[bytes], log: Path, begin: int) -> Ended:
        text = log.read_bytes()[begin:].decode(errors="replace")
        return Ended(tuple(argv), process.returncode, "", text)

    def _job(self, results: Path) -> str:
        """The job of this resultdir that nobody follows; empty if there is none."""
        listed = json.loads(self.fleet.user.cloud("jobs", "--json").expect().stdout)
        found = [one for one in listed if one["resultdir"] == str(results)]
        return str(found[-1]["job"]) if found and found[-1]["state"] == "left" else ""

    def _mount(self, place: Path, options: str) -> None:
        size = options if "size=" in options else f"size={options}"
        where = [] if "remount" in options else ["-t", "tmpfs"]
        subprocess.run(["mount", *where, "-o", size, "soak", str(place)], check=True)

    def _check(self, ended: Ended, results: Path) -> None:
        """The right code with all results, once; or a clear 75 and no half of any."""
        text = ended.stderr
        assert "Traceback" not in text, text
        packages = sorted(path.name for path in results.glob("*.rpm"))
        assert not list(results.glob(".mock-cloud*")), list(results.iterdir())
        if ended.code == _RETRYABLE:
            assert text.count("\nERROR: ") + text.startswith("ERROR: ") >= 1, text
            assert packages == [], packages
            self.tally.note(self.tally.ends, f"75: {_reason(text)}")
            return
        assert ended.code == self.code, f"{ended.code}, not {self.code}: {text[-3000:]}"
        log = (results / "build.log").read_text(errors="replace")
        ticks = _TICK.findall(_ATTEMPT.split(log)[-1])
        whole = [str(number) for number in range(1, _TICKS + 1)]
        assert ticks[-_TICKS:] == whole, ticks  # before them, those of a build that was lost
        if self.code == 0:
            assert len(packages) == 2, packages
            verified = self.fleet.judge.cloud("verify", str(results))
            assert verified.code == 0, verified.stdout + verified.stderr
        else:
            assert packages == [], packages
        self.tally.note(self.tally.ends, f"{ended.code}, as it has to")


_CLOUD = "import sys; from mock_cloud.cli import main; sys.exit(main(sys.argv[1:]))"


def _reason(text: str) -> str:
    """The kind of a failure: its message without what differs from node to node."""
    said = re.findall(r"^ERROR: (.*)$", text, re.MULTILINE)[-1]
    return re.sub(r"\S*[\d@]\S*", "…", said)[:100]


def test_builds(
    lab: Lab,
    lab_repo: FileServer,
    cache: Path,
    lab_srpm: Callable[[Recipe], Path],
    tmp_path: Path,
) -> None:
    pytest.importorskip("moto", reason="moto is not installed")
    seed = int(os.environ.get("MOCK_CLOUD_SOAK_SEED", "0")) or random.SystemRandom().getrandbits(32)
    print(f"\nMOCK_CLOUD_SOAK_SEED={seed}", flush=True)
    good = lab_srpm(_recipe("good", ""))
    bulky = lab_srpm(
        _recipe("bulky", "head -c 8M /dev/urandom > %{buildroot}%{_datadir}/toy-soak-bulky/noise\n")
    )
    failing = lab_srpm(_recipe("failing", "", end="exit 1\n"))
    kinds = [(good, 0), (good, 0), (bulky, 0), (failing, 1)]
    tally, is_over = Tally(), threading.Event()
    with fleets(lab, lab_repo, cache, tmp_path) as all_fleets:
        threads = [
            threading.Thread(
                target=_work, args=(seed, n, all_fleets, kinds, tmp_path, tally, is_over)
            )
            for n in range(_AT_ONCE)
        ] + [
            threading.Thread(target=_trouble, args=(f"{seed} {one.remote}", one, tally, is_over))
            for one in all_fleets
        ]
        for thread in threads:
            thread.start()
        try:
            is_over.wait(_MINUTES * 60)
        finally:
            is_over.set()
            for thread in threads:
                thread.join()
        for one in all_fleets:
            waiting = json.loads(one.user.cloud("jobs", "--json").expect().stdout)
            assert [job for job in waiting if job["state"] == "starting"] == [], waiting
    print(f"{sum(tally.ends.values())} builds in {_MINUTES:g} minutes, {len(tally.wrong)} wrong")
    for counter in (tally.ends, tally.troubles):
        for what, count in sorted(counter.items()):
            print(f"{count:5} {what}")
    assert tally.wrong == [], "\n\n".join(tally.wrong)
    assert sum(tally.ends.values()) > 0


def _recipe(name: str, install: str, end: str = "") -> Recipe:
    ticks = f"for tick in $(seq {_TICKS}); do echo tick $tick; sleep 1; done\n"
    preamble = "BuildArch: noarch\n%global _binary_payload w.ufdio\n"
    return srpm.toy(f"toy-soak-{name}", preamble=preamble, build=ticks + end, install=install)


def _work(
    seed: int,
    number: int,
    all_fleets: list[Fleet],
    kinds: list[tuple[Path, int]],
    place: Path,
    tally: Tally,
    is_over: threading.Event,
) -> None:
    chance = random.Random(f"{seed} work {number}")  # noqa: S311
    count = 0
    while not is_over.is_set():
        count += 1
        package, code = chance.choice(kinds)
        small = code == 0 and chance.random() < 0.2
        fleet = chance.choice(all_fleets)
        build = Build(fleet, package, code, place, number * 1000 + count, chance, tally, small)
        try:
            build.run()
        except Exception as error:  # the others go on; all of it is shown at the end
            log = place / f"printed-{build.number}"
            said = log.read_text(errors="replace")[-4000:] if log.exists() else ""
            with tally.lock:
                tally.wrong.append(f"{fleet.remote} {package.name} {build.number}: {error}\n{said}")
                tally.ends["wrong"] += 1
            print(f"WRONG {fleet.remote} {build.number}: {str(error)[:2000]}", flush=True)


def _trouble(seed: str, fleet: Fleet, tally: Tally, is_over: threading.Event) -> None:
    chance = random.Random(seed)  # noqa: S311
    while not is_over.wait(chance.uniform(2, 20)):
        what = chance.choice(fleet.troubles)(chance)
        if what:
            tally.note(tally.troubles, re.sub(r"-?\d+ s", "… s", f"{fleet.remote}: {what}"))
            stamp = time.strftime("%H:%M:%S")
            print(f"{stamp} {fleet.remote}: {what}", flush=True)
