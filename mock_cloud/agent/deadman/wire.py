# SPDX-License-Identifier: GPL-2.0-or-later
"""What the timer and the agents agree on: where its socket is, and what a sign of life is."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Final

from mock_cloud.wire.layout import DEADMAN

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
