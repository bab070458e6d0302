# SPDX-License-Identifier: GPL-2.0-or-later
"""An SSH connection's bytes through a command, as OpenSSH's ProxyCommand has it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from typing import BinaryIO, Final

from mock_cloud.jump_master import share_jump
from mock_cloud.process import own_environment
from mock_cloud.remote.wire import Wire
from mock_cloud.wire.terminal_text import clean

_END_S: Final = 2.0
_LOOK_EVERY_S: Final = 0.01
_SAID_BYTES: Final = 4096


class ProxyWire(Wire):
    """A wire whose other end is a command's stdin and stdout. It dies with the connection.

    The command has a session of its own, so that a signal from the terminal reaches it through
    us only, and so that its own children end with it.
    """

    def __init__(
        self, sock: socket.socket, process: subprocess.Popen[bytes], errors: BinaryIO
    ) -> None:
        super().__init__(sock)
        self._process = process
        self._errors = errors
        self._said = ""
        self._ending = threading.Lock()

    def said(self) -> str:
        """The end of what the command printed on stderr, fit for a message."""
        with self._ending:
            return self._said if self._errors.closed else self._read_errors()

    def close(self) -> None:
        super().close()
        with self._ending:
            if self._errors.closed:
                return
            _end(self._process)
            self._said = self._read_errors()
            self._errors.close()

    def _read_errors(self) -> str:
        size = os.fstat(self._errors.fileno()).st_size
        return clean(os.pread(self._errors.fileno(), _SAID_BYTES, max(0, size - _SAID_BYTES)))


def start_proxy(command: Sequence[str], timeout_s: float) -> ProxyWire:
    """Start `command` as the way to a node. OSError if it cannot be started."""
    ours, its = socket.socketpair()
    with its, contextlib.ExitStack() as undo:
        undo.callback(ours.close)
        errors = undo.enter_context(tempfile.TemporaryFile())
        process = subprocess.Popen(
            share_jump(command, timeout_s),
            stdin=its.fileno(),
            stdout=its.fileno(),
            stderr=errors.fileno(),
            env=own_environment(),
            start_new_session=True,
        )
        undo.pop_all()
    ours.settimeout(timeout_s)
    return ProxyWire(ours, process, errors)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the command and its children; most end by themselves when stdin does."""
    group = process.pid  # until it is reaped, nobody else can have that number
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGTERM)
    deadline = time.monotonic() + _END_S
    ended = os.WEXITED | os.WNOHANG | os.WNOWAIT
    while os.waitid(os.P_PID, group, ended) is None and time.monotonic() < deadline:
        time.sleep(_LOOK_EVERY_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    process.wait()
