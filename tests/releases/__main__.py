# SPDX-License-Identifier: GPL-2.0-or-later
"""python -m tests.releases: README's commands in fresh systems; one line for each at the end."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from mock_cloud.errors import MockCloudError
from mock_cloud.process import run
from tests.lab import prepare, steps
from tests.lab.layout import LabError, default_lab, repository_root
from tests.releases import enter, trees

_COMMANDS = ("make demo", "make test")  # README's
_QUICK = ("make test-unit", "make demo")
_COUNTS = re.compile(r"(\d+) (passed|failed|skipped|errors?)\b")
_SUMMARY = re.compile(r"^(?:[\w-]+: )?=*\s*(?:\d+ \w+(?:, )?)+ in [\d.]+s", re.M)
_FAILED = re.compile(r"^(?:E   .*| tests/\S+::\S+|make: \*\*\* .*)$")
_AT_ONCE = 2
_DEMO_LINES = 100
_REASONS = 12
"""Lines of a failed command that are repeated: who sees this output may not have the log."""
_running: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one command in one system."""

    command: str
    status: int
    took_s: float
    first_words_s: float
    lines: int
    counts: dict[str, int]
    reasons: tuple[str, ...] = ()

    @property
    def failure(self) -> str:
        if self.status == 0 and self.command == "make demo" and self.lines >= _DEMO_LINES:
            return "more than a newcomer reads"
        return str(self.status) if self.status else ""

    def __str__(self) -> str:
        state = f"FAILED ({self.failure})" if self.failure else "ok"
        tests = "".join(f", {number} {word}" for word, number in self.counts.items())
        took = f"{self.took_s // 60:.0f} min {self.took_s % 60:02.0f} s"
        first = f"first words after {self.first_words_s:.1f} s"
        said = f"{self.command} {state}, {took} ({first}, {self.lines} lines{tests})"
        return "\n  ".join((said, *(self.reasons if self.failure else ())))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.releases", description=__doc__)
    parser.add_argument("--cache", type=Path, default=trees.CACHE, help=f"default: {trees.CACHE}")
    parser.add_argument("--quick", action="store_true", help="the units and a build on the newest")
    parser.add_argument("--command", action="append", help="instead of README's; may be repeated")
    parser.add_argument("--keep", action="store_true", help="leave the systems in the cache")
    parser.add_argument("suite", nargs="*", help=f"of {' '.join(trees.SUITES)}; default: all")
    return parser


def perform(suite: str, commands: tuple[str, ...], cache: Path, *, keep: bool) -> list[Outcome]:
    """Run `commands` in a clean clone in a fresh system of `suite`, until one fails."""
    root = cache / "systems" / suite
    shutil.rmtree(root, ignore_errors=True)
    with steps.step(f"{trees.SUITES[suite]}: a fresh system"):
        trees.unpack(suite, cache, root)
        (root / "tmp" / suite).mkdir()
        (root / "tmp" / suite).chmod(0o1777)
        clone = ["git", "clone", "--quiet", "--no-local", str(repository_root())]
        run([*clone, str(root / "root/mock-cloud")], timeout_s=120)
    outcomes = []
    try:
        for command in commands:
            log = cache / "logs" / f"{suite}-{command.replace(' ', '-').replace('/', '-')}.log"
            with steps.step(f"{trees.SUITES[suite]}: {command} ({log})"):
                outcomes.append(_run(suite, command, cache, root, log))
            if outcomes[-1].failure:
                break
    finally:
        if not keep:
            shutil.rmtree(root)
    return outcomes


def _run(suite: str, command: str, cache: Path, root: Path, log: Path) -> Outcome:
    binds = {
        cache / suite / "apt": "/var/cache/apt/archives",
        cache / suite / "pip": "/root/.cache/pip",
    }
    log.parent.mkdir(parents=True, exist_ok=True)
    began_s = time.monotonic()
    first_s = 0.0
    lines: list[str] = []
    process = enter.start(
        root, command.split(), output=subprocess.PIPE, directory="/root/mock-cloud", binds=binds,
        # Loop devices are this machine's: a file in one system has no namesake in another.
        environment={"TMPDIR": f"/tmp/{suite}"},
    )  # fmt: skip
    _running.append(process)
    assert process.stdout is not None
    with log.open("wb") as copy, process:
        for line in process.stdout:
            first_s = first_s or time.monotonic() - began_s
            lines.append(line.decode(errors="replace"))
            copy.write(line)
            copy.flush()
    counts: dict[str, int] = {}
    for line in lines:
        if _SUMMARY.match(line):
            for number, word in _COUNTS.findall(line):
                counts[word] = counts.get(word, 0) + int(number)
    took_s = time.monotonic() - began_s
    reasons = dict.fromkeys(line.rstrip() for line in lines if _FAILED.match(line.rstrip()))
    ending = tuple(reasons)[-_REASONS:]
    return Outcome(command, process.returncode, took_s, first_s, len(lines), counts, ending)


def _find_obstacle() -> str | None:
    if not prepare.is_debian():
        return "needs Debian's mmdebstrap"
    if shutil.which("mmdebstrap") is None:
        try:
            prepare.install_debs(("mmdebstrap",), default_lab().log("packages"))
        except LabError as error:
            return error.message
    return trees.find_obstacle()


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    obstacle = _find_obstacle()
    suites = options.suite or ([trees.NEWEST] if options.quick else list(trees.SUITES))
    if obstacle is not None:
        for suite in suites:
            print(f"releases: {trees.SUITES[suite]}: skipped: {obstacle}")
        return 0 if options.quick else 1
    commands = tuple(options.command or (_QUICK if options.quick else _COMMANDS))
    failed = False
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        pairs = [
            (suite, pool.submit(perform, suite, commands, options.cache, keep=options.keep))
            for suite in suites
        ]
        try:
            wait([future for _, future in pairs])
        except KeyboardInterrupt:
            for _, future in pairs:
                future.cancel()
            for process in _running:  # unshare(1) ignores what asks it to end
                process.kill()
            raise
    for suite, future in pairs:
        try:
            said = "; ".join(map(str, future.result()))
            failed |= any(outcome.failure for outcome in future.result())
        except MockCloudError as error:
            said, failed = f"FAILED: {error.message}", True
        print(f"releases: {trees.SUITES[suite]} ({suite}): {said}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
