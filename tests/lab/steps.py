# SPDX-License-Identifier: GPL-2.0-or-later
"""Shows the steps that take a while: a line before, one now and then, one after."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.lab.layout import LabError

_FIRST_S = 10.0
_LONGEST_S = 60.0  # between two lines
_SHOWN_LINES = 40  # of the output of what failed


def say(text: str) -> None:
    print(f"lab: {text}", flush=True)


@contextmanager
def step(title: str) -> Iterator[None]:
    """Print that `title` begins, how long it takes so far, and how long it took."""
    say(f"{title} …")
    began_s = time.monotonic()
    ended = threading.Event()

    def report() -> None:
        wait_s = _FIRST_S
        while not ended.wait(wait_s):
            say(f"{title}, {time.monotonic() - began_s:.0f} s so far")
            wait_s = min(2 * wait_s, _LONGEST_S)

    reporter = threading.Thread(target=report, daemon=True)
    reporter.start()
    try:
        yield
    finally:
        ended.set()
        reporter.join()
    say(f"{title}: done, {time.monotonic() - began_s:.0f} s")


def run_logged(argv: Sequence[str], log: Path, *, env: dict[str, str] | None = None) -> None:
    """Run `argv` with its output appended to `log`, whose end is shown if it fails. LabError.

    Unlike `mock_cloud.process.run` it has the caller's environment: pip's settings, proxies.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as stream:
        start = stream.tell()
        done = subprocess.run(
            list(argv), stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, env=env, check=False
        )
    if done.returncode:
        with log.open("rb") as stream:
            stream.seek(start)
            lines = stream.read().decode(errors="replace").splitlines()[-_SHOWN_LINES:]
        print("\n".join(lines), file=sys.stderr)
        raise LabError(f"{argv[0]} ended with {done.returncode}", hint=f"all it printed: {log}")
