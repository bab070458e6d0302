# SPDX-License-Identifier: GPL-2.0-or-later
"""A controller for the soak: leases nodes, holds them, gives them back, as commands do.

It may be killed at any moment. What it holds it writes down before, in one line each:
``TIME PID held|left HANDLE``. Run as ``python -m tests.soak.controller REMOTE CONFIGDIR
STATE_DIR DIARY SEED``.
"""

from __future__ import annotations

import os
import platform
import random
import sys
import time
from pathlib import Path

from mock_cloud.cloud.claim import LeaseRequest
from mock_cloud.cloud.pool import acquire
from mock_cloud.config.remotes import load_remote
from mock_cloud.errors import MockCloudError


def main(name: str, configdir: str, state_dir: str, diary: str, seed: str) -> None:
    """Lease for ever."""
    chance = random.Random(int(seed))  # noqa: S311 (no secret)
    remote = load_remote(name, Path(configdir))
    descriptor = os.open(diary, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(word: str, handle: str) -> None:
        os.write(descriptor, f"{time.time()} {os.getpid()} {word} {handle}\n".encode())

    while True:
        try:
            node = acquire(
                remote,
                LeaseRequest(f"chroot{chance.randrange(8)}", platform.machine(), fresh=True),
                state_dir=Path(state_dir),
                deadline_s=20.0,
            )
        except MockCloudError as error:
            note("failed", " ".join(error.message.split()))
            time.sleep(0.1)
            continue
        note("held", node.handle)
        time.sleep(chance.uniform(0.0, 0.5))
        note("left", node.handle)
        try:
            node.release(keep=chance.random() < 0.2)
        except MockCloudError as error:
            note("failed", " ".join(error.message.split()))


if __name__ == "__main__":
    main(*sys.argv[1:])
