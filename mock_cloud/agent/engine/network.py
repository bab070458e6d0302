# SPDX-License-Identifier: GPL-2.0-or-later
"""A network namespace for builds that may not use the network."""

from __future__ import annotations

import os
import signal

from mock_cloud.agent.engine import syscalls
from mock_cloud.agent.engine.errors import EngineError

_EXIT_UNSHARE = 80  # mock's: unshare of a namespace failed


def open_isolated() -> int:
    """A descriptor of a new network namespace with only a loopback in it; the caller closes it."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _hold_namespace(writer)
    os.close(writer)
    try:
        with open(reader, "rb") as stream:
            problem = stream.readline()
        if problem != b"ready\n":
            raise EngineError(f"no network namespace: {problem.decode()}", _EXIT_UNSHARE)
        return os.open(f"/proc/{child}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _hold_namespace(writer: int) -> None:
    try:
        syscalls.isolate_network()
        os.write(writer, b"ready\n")
        os.close(writer)
        signal.pause()
    except OSError as error:
        os.write(writer, str(error).encode())
    finally:
        os._exit(0)
