# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent's gate: what may be asked before the controller has said that it trusts us.

The main agent keeps a file named after the sha256 of the controller's token, under a lock
that lasts as long as its process. A bulk agent that is shown the token joins while that
lock is held, so that a token is worth nothing once its connection has gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from typing import Final

from mock_cloud.agent.serve_wire import Failure, hex_digest

OPEN_OPERATIONS: Final = frozenset(
    {"hello", "reload", "measure", "headers", "accounts", "order", "ping", "trust", "join"}
)


class Gate:
    """Closed until `trust` or `join`."""

    def __init__(self, workspace: str) -> None:
        self._dir = os.path.join(workspace, "channels")
        self._fd: int | None = None
        self._path = ""
        self.trusted = False

    def check(self, operation: str) -> None:
        """Failure ``untrusted`` for an operation that must wait for `trust`."""
        if not self.trusted and operation not in OPEN_OPERATIONS:
            raise Failure("untrusted", f"{operation} before trust")

    def trust(self, token: str) -> None:
        """Open the gate and let bulk channels that know `token` join."""
        if self.trusted:
            raise Failure("bad-request", "trust was given before")
        path = self._token_path(token)
        os.makedirs(self._dir, mode=0o700, exist_ok=True)
        directory = os.open(self._dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # Another agent's sweep must not see our file before it is locked.
            fcntl.flock(directory, fcntl.LOCK_EX)
            self._sweep()
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            fd = os.open(path, flags, 0o600)
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(directory)
        self._fd, self._path, self.trusted = fd, path, True

    def join(self, token: str) -> None:
        """Open the gate because a living main agent holds `token`."""
        if not _is_held(self._token_path(token)):
            raise Failure("untrusted", "join: no agent of this token is running")
        self.trusted = True

    def close(self) -> None:
        if self._fd is not None:
            with contextlib.suppress(FileNotFoundError):  # `seal` took the whole workspace
                os.unlink(self._path)
            os.close(self._fd)
            self._fd = None

    def _token_path(self, token: str) -> str:
        name = hashlib.sha256(hex_digest(token).encode()).hexdigest()
        return os.path.join(self._dir, name)

    def _sweep(self) -> None:
        """Remove what killed agents left."""
        for entry in os.scandir(self._dir):
            if not _is_held(entry.path):
                os.unlink(entry.path)


def _is_held(path: str) -> bool:
    """Whether another process locks `path`. False if there is no such file.

    POSIX record locks: a child of the main agent doesn't inherit them.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return True
    finally:
        os.close(fd)
    return False
