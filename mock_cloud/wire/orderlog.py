# SPDX-License-Identifier: GPL-2.0-or-later
"""The order log: one line an event, which shows that attestation came before any source."""

from __future__ import annotations

import os
import time
from typing import Final

_NAME: Final = "order.log"
_DETAIL_MAX: Final = 400
_SHOWN_MAX_BYTES: Final = 1 << 20


class OrderLog:
    """Appends to ``W/order.log``. Several agents may write it at the same time."""

    def __init__(self, workspace: str) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(os.path.join(workspace, _NAME), flags, 0o600)
        self._start = os.fstat(self._fd).st_size

    def write(self, event: str, detail: str = "") -> None:
        """One line: UTC time, our pid, `event`, `detail` with control characters escaped.

        A full disk loses the line, not the build.
        """
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
        shown = detail[:_DETAIL_MAX].encode("unicode_escape").decode("ascii")
        line = f"{stamp}.{int(now * 1000) % 1000:03d}Z {os.getpid()} {event} {shown}".rstrip()
        try:
            os.write(self._fd, line.encode() + b"\n")
        except OSError:
            return

    def since_start(self) -> bytes:
        """What was logged since this agent started, by its bulk channels too."""
        size = os.fstat(self._fd).st_size - self._start
        return os.pread(self._fd, min(size, _SHOWN_MAX_BYTES), self._start)

    def close(self) -> None:
        os.close(self._fd)
