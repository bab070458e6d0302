# SPDX-License-Identifier: GPL-2.0-or-later
"""moto and mimic as what they are: HTTP servers in processes of their own, on loopback."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from mock_cloud.process import environment
from tests.lab.layout import LabError

_START_TIMEOUT_S = 30.0
_BIN = Path(sys.executable).parent


class Backend:
    """A server process that ends with its context, or with the lab if that is killed.

    `argv` holds ``PORT`` where its port goes; it runs in `directory` and logs there. `alive` is
    a path that answers as soon as it is up.
    """

    def __init__(
        self,
        argv: tuple[str, ...],
        directory: Path,
        alive: str,
        extra_env: Mapping[str, str] | None = None,
    ) -> None:
        self.port = _free_port()
        self._alive = alive
        # prctl(2) PR_SET_PDEATHSIG: it dies with the thread that starts it, the main one.
        words = ("setpriv", "--pdeathsig", "KILL", *argv)
        self._argv = [word.replace("PORT", str(self.port)) for word in words]
        self._directory = directory
        self._env = environment(extra_env)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self._directory / "backend.log").read_text(errors="replace")

    def __enter__(self) -> Backend:
        with (self._directory / "backend.log").open("wb") as log:
            self._process = subprocess.Popen(
                self._argv,
                cwd=self._directory,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._wait()
        except LabError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *unused: object) -> None:
        process, self._process = self._process, None
        if process is not None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _wait(self) -> None:
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline_s:
            if self._process is None or self._process.poll() is not None:
                break
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            try:
                connection.request("GET", self._alive)
                connection.getresponse().read()
                return
            except (OSError, http.client.HTTPException):
                time.sleep(0.03)
            finally:
                connection.close()
        raise LabError(f"{self._argv[3]} did not start: {self.log[-2000:]}")


def moto(directory: Path) -> Backend:
    """EC2: an empty account, without moto's list of several hundred images."""
    argv = (str(_BIN / "moto_server"), "-H", "127.0.0.1", "-p", "PORT")
    settings = {"MOTO_EC2_LOAD_DEFAULT_AMIS": "false"}
    return Backend(argv, directory, "/moto-api/data.json", settings)


def mimic(directory: Path) -> Backend:
    """OpenStack and Rackspace."""
    argv = ("-n", "--pidfile=", "mimic", "--listen", "tcp:PORT:interface=127.0.0.1")
    return Backend((str(_BIN / "twistd"), *argv), directory, "/")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
