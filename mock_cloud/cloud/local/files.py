# SPDX-License-Identifier: GPL-2.0-or-later
"""A local node's directory on the host: who supervises it, what it said, how it is removed.

``lock`` is held (flock) by the supervisor as long as it lives; ``node.json`` says which processes
to end; ``console.log`` is sshd's log; ``disk/`` or ``disk.img`` holds the node's work.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mock_cloud.cloud.lease import Holder
from mock_cloud.errors import CleanupError
from mock_cloud.process import CommandFailed, run
from mock_cloud.wire.dataclass import dataclass
from mock_cloud.wire.decode import decode_bytes, to_json
from mock_cloud.wire.files import replace_file
from mock_cloud.wire.terminal_text import printable

_TAIL_BYTES: Final = 4000
_PAUSE_S: Final = 0.01


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """The processes behind a node: its supervisor, and its pid 1 as the host sees it."""

    owner: str
    supervisor: Holder
    init: Holder | None


def write_facts(directory: Path, facts: NodeFacts) -> None:
    """Replace ``node.json``."""
    replace_file(directory / "node.json", to_json(facts))


def find_facts(directory: Path) -> NodeFacts | None:
    """What ``node.json`` says; None if it was not written yet or is damaged."""
    try:
        return decode_bytes(NodeFacts, (directory / "node.json").read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def is_supervised(directory: Path) -> bool:
    """Whether a living supervisor holds the node's lock."""
    try:
        lock = os.open(directory / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # so that two who look don't clash
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def end_process(process: Holder, number: signal.Signals) -> None:
    """Send a signal to exactly this process; nothing if it is gone."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        if process.alive:
            signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        pass
    finally:
        os.close(descriptor)


def wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Whether `condition` came true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_PAUSE_S)
    return True


def wait_gone(process: Holder, timeout_s: float) -> bool:
    """Whether the process ended in time."""
    return wait_until(lambda: not process.alive, timeout_s)


def read_tail(directory: Path) -> str:
    """The end of the console, bounded; control characters are made visible."""
    try:
        with (directory / "console.log").open("rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - _TAIL_BYTES))
            text = stream.read(_TAIL_BYTES).decode(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(map(printable, text.replace("\r\n", "\n").split("\n")))


def remove_tree(directory: Path) -> None:
    """Remove a node's directory. CleanupError names it.

    rm(1) copes with any depth, which the node decides on, and stays on one file system.
    """
    try:
        run(["rm", "-rf", "--one-file-system", "--", str(directory)], timeout_s=120)
    except CommandFailed as error:
        raise CleanupError(
            f"the directory of a local node could not be removed: {error.message}",
            hint=f"remove {directory} by hand, or run the command again",
        ) from error
