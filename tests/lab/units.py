# SPDX-License-Identifier: GPL-2.0-or-later
"""A systemd unit's command on a lab machine, kept as the unit says: Restart=always with backoff."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

from mock_cloud.process import environment


class KeptUnit:
    """Runs ExecStart= in all namespaces of process `init_pid`; a context manager.

    Again after each end, RestartSec= later, and after RestartSteps= of these RestartMaxDelaySec=,
    geometrically in between (systemd.service(5)).
    """

    def __init__(self, unit: Path, init_pid: int) -> None:
        lines = unit.read_text().splitlines()
        self._said = dict(line.split("=", 1) for line in lines if "=" in line and line[0] != "#")
        self.argv = shlex.split(self._said["ExecStart"])
        self._enter = ["nsenter", "--target", str(init_pid), "--mount", "--uts", "--ipc", "--net",
                       "--pid", "--wd=/", "--"]  # fmt: skip
        self._over, self._wanted, self._stopped = (threading.Event() for _ in range(3))
        self._wanted.set()
        self._child: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep, name="kept unit")
        self.ends: list[str] = []

    def delay_s(self, restarts: int) -> float:
        """How long it waits before it is started for the `restarts`-th time again."""
        first, most = float(self._said["RestartSec"]), float(self._said["RestartMaxDelaySec"])
        steps = int(self._said["RestartSteps"])
        return min(most, float(first * (most / first) ** (min(restarts, steps) / steps)))

    def __enter__(self) -> KeptUnit:
        assert self._said["Restart"] == "always"
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._wanted.set()
        self.kill()
        self._thread.join()

    def kill(self) -> None:
        """End what runs now; unless the unit is over it comes again."""
        child = self._child
        if child is not None:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)

    def pause(self) -> None:
        """systemctl stop."""
        self._wanted.clear()
        self.kill()
        self._stopped.wait()

    def resume(self) -> None:
        """systemctl start."""
        self._wanted.set()

    def _keep(self) -> None:
        restarts = 0
        while not self._over.is_set():
            if not self._wanted.is_set():
                self._stopped.set()
                self._wanted.wait()
                self._stopped.clear()
                continue
            with subprocess.Popen(
                [*self._enter, *self.argv], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE, start_new_session=True,
                env=environment({"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}),
            ) as self._child:  # fmt: skip
                if self._over.is_set() or not self._wanted.is_set():
                    self.kill()
                assert self._child.stderr is not None
                self.ends.append(self._child.stderr.read().decode(errors="replace").strip())
            # What nsenter had forked is ours once both were killed: a zombie keeps the namespace.
            with suppress(ChildProcessError):
                while True:
                    os.waitpid(-self._child.pid, 0)
            self._over.wait(self.delay_s(restarts) if self._wanted.is_set() else 0)
            restarts += 1
