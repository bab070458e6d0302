# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab's repositories, served by a process that outlives the command which started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from tests.lab.layout import Lab, LabError, repository_root

HOURS = 8
_END_S = 10.0


def start(lab: Lab, place: Path, port: int) -> None:
    """Serve `lab.dist` at `port` for `HOURS`, with mock's configuration in `place`. LabError."""
    argv = [sys.executable, "-m", "tests.lab", "serve", "--dir", str(lab.root)]
    argv += ["--port", str(port), "--etc", str(place / "etc" / "mock"), "--hours", str(HOURS)]
    with (place / "server.log").open("wb") as log:
        server = subprocess.Popen(
            argv,
            cwd=repository_root(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
    assert server.stdout is not None
    with server.stdout:
        if not server.stdout.readline():
            raise LabError("the repositories cannot be served", hint=f"see {place}/server.log")
    (place / "server.pid").write_text(f"{server.pid}\n")


def stop(place: Path) -> bool:
    """End the server that `start` left for `place`; whether there was one."""
    try:
        pid = int((place / "server.pid").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return False
    if str(place).encode() not in command:  # the number is another process's by now
        return False
    os.kill(pid, signal.SIGTERM)
    with suppress(ChildProcessError):  # this process may be the one that started it
        os.waitpid(pid, 0)
    deadline_s = time.monotonic() + _END_S
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline_s:
        time.sleep(0.05)
    return True
