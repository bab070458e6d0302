# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent's line to the timer of its node: signs of life, and the controller's orders."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from typing import Final

from mock_cloud.agent.serve_wire import Failure, own_command
from mock_cloud.wire.decode import to_json
from mock_cloud.wire.layout import DEADMAN
from mock_cloud.wire.orders import ORDER_MAX_BYTES, DeadmanOrder

_BEAT_EVERY_S: Final = 0.5
_ANSWER_S: Final = 5.0
_START_S: Final = 20.0
_SAID_MAX: Final = 400
_ABSENT: Final = (FileNotFoundError, ConnectionRefusedError)


class Line:
    """`beat` is for the thread that reads frames, `order` for one other."""

    def __init__(self, workspace: str) -> None:
        self._workspace = workspace
        self._beats: socket.socket | None = None
        self._beat_at = 0.0

    def beat(self) -> None:
        """The controller was heard of. Never waits; without a timer nothing happens."""
        now = time.monotonic()
        if now < self._beat_at + _BEAT_EVERY_S:
            return
        self._beat_at = now
        try:
            if self._beats is None:
                self._beats = self._connect()
                self._beats.setblocking(False)
            self._beats.send(BEAT)
        except BlockingIOError:
            return  # it has many to read already
        except OSError:
            self.close()  # there is none, or no longer

    def order(self, order: DeadmanOrder) -> None:
        """Have the timer take `order`, started if there is none. Failure with its reason."""
        try:
            answer = self._ask(order)
        except _ABSENT:
            self._start()
            answer = self._ask_started(order)
        except OSError as error:
            raise Failure("deadman", f"the timer gives no answer: {error}") from error
        if answer != BEAT:
            said = answer.decode(errors="replace")[:_SAID_MAX] or "it ended"
            raise Failure("deadman", f"the timer takes no order: {said}")

    def close(self) -> None:
        beats, self._beats = self._beats, None
        if beats is not None:
            beats.close()

    def _ask_started(self, order: DeadmanOrder) -> bytes:
        try:
            return self._ask(order)
        except OSError as error:
            raise Failure("deadman", f"the timer did not start: {error}") from error

    def _ask(self, order: DeadmanOrder) -> bytes:
        with self._connect() as line:
            line.settimeout(_ANSWER_S)
            line.send(to_json(order))
            return line.recv(ORDER_MAX_BYTES)

    def _connect(self) -> socket.socket:
        line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            line.settimeout(_ANSWER_S)
            with socket_address(self._workspace) as address:
                line.connect(address)
        except OSError:
            line.close()
            raise
        return line

    def _start(self) -> None:
        """The toolkit's python again, in a session of its own; its parent ends once it listens.

        Nothing of the agent's environment goes along.
        """
        command = [*own_command(), DEADMAN, "--workspace", self._workspace]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                cwd="/",
                env={"PATH": os.defpath, "LC_ALL": "C"},
                start_new_session=True,
                timeout=_START_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Failure("deadman", f"the timer cannot be started: {error}") from error
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
            raise Failure("deadman", f"the timer cannot be started: {said[:_SAID_MAX]}")


SOCKET: Final = "socket"
BEAT: Final = b"."
"""A sign of life; and the answer to an order that was taken."""


@contextlib.contextmanager
def socket_address(workspace: str) -> Iterator[str]:
    """The socket's address, short however long the path is: sun_path holds 108 bytes. OSError."""
    directory = os.path.join(workspace, DEADMAN)
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET}"
    finally:
        os.close(descriptor)
