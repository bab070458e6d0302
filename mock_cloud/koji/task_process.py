# SPDX-License-Identifier: GPL-2.0-or-later
"""Stops a command of kojid's whose task is gone.

A task is a process that leads a group of its own, in which mock is too (`TaskManager.forkTask` in
kojid). `koji cancel` makes the hub refuse the task's next upload of a log: the task's process ends
by that, and mock is an orphan before kojid looks whom to signal.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from mock_cloud.cloud.lease import Holder

_LOOK_EVERY_S: Final = 1.0


@contextmanager
def stopped_with_task() -> Iterator[None]:
    """Within the block this process gets SIGINT, as from kojid, once its group's leader has ended.

    Nothing happens where it leads its group itself, or the leader has ended before: then it is a
    person's or a script's.
    """
    leader = Holder.of(os.getpgrp())
    if leader is None or leader.pid == os.getpid():
        yield
        return
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_LOOK_EVERY_S):
            if not leader.alive:
                os.kill(os.getpid(), signal.SIGINT)
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
