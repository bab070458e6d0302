# SPDX-License-Identifier: GPL-2.0-or-later
"""One login at a jump host for a whole command: OpenSSH's connection sharing, by a master of ours.

The master is started with the very options of the way that it stands for: strict keys, no question.
It is reached by a socket in a directory of this user's, and ends with the command, however it ends.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from mock_cloud.process import own_environment

_ALONE: Final = ("ControlMaster=no", "ControlPath=none")
_FORWARD: Final = "-W"
_LOOK_EVERY_S: Final = 0.02
_END_S: Final = 5.0
_PATH_MAX: Final = 107 - 18
"""sun_path of unix(7), less what OpenSSH adds while it makes the socket (muxserver_listen)."""

# It ends the master when this process is gone, which closes the other end of its stdin.
_KEEPER: Final = """
import contextlib, os, select, subprocess, sys
child = subprocess.Popen(sys.argv[2:], stdin=subprocess.DEVNULL)
gone, _, _ = select.select([0, os.pidfd_open(child.pid)], [], [])
child.terminate()
child.wait()
if 0 in gone:
    with contextlib.suppress(OSError):
        os.rmdir(sys.argv[1])
"""


class _Master:
    """One process of OpenSSH's client that others go through. `end` is idempotent."""

    def __init__(self, argv: Sequence[str], path: Path) -> None:
        self._argv, self._path = [*argv], path
        self._lock = threading.Lock()
        self._keeper: subprocess.Popen[bytes] | None = None

    def takes(self, timeout_s: float) -> bool:
        """Whether others can go through it; it is started, and waited for, if it does not run."""
        with self._lock:
            if self._keeper is None or self._keeper.poll() is not None:
                self._start()
            until = time.monotonic() + timeout_s
            while not self._path.exists():
                ended = self._keeper is None or self._keeper.poll() is not None
                if ended or time.monotonic() > until:
                    return False
                time.sleep(_LOOK_EVERY_S)
            return True

    def _start(self) -> None:
        self.end()
        self._path.unlink(missing_ok=True)
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _KEEPER, str(self._path.parent), *self._argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=own_environment(),
            start_new_session=True,
        )

    def end(self) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is None:
            return
        if keeper.stdin is not None:
            keeper.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            keeper.wait(_END_S)
            return
        with suppress(ProcessLookupError):
            os.killpg(keeper.pid, 9)
        keeper.wait()


class _Masters:
    """Those of one command, by the way without what it leads to. `close` is idempotent."""

    def __init__(self) -> None:
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._lock = threading.Lock()
        self._masters: dict[tuple[str, ...], tuple[_Master, Path]] = {}

    def through(self, way: tuple[str, ...], timeout_s: float) -> tuple[str, ...]:
        at = way.index(_FORWARD)
        key = (*way[:at], *way[at + 2 :])
        with self._lock:
            if key not in self._masters:
                if self._directory is None:
                    self._directory = tempfile.TemporaryDirectory(prefix="mock-cloud-")
                path = Path(self._directory.name, str(len(self._masters)))
                argv = (*_shared(way[:at], "yes", path), "-N", *way[at + 2 :])
                self._masters[key] = (_Master(argv, path), path)
            master, path = self._masters[key]
        if len(os.fsencode(path)) > _PATH_MAX or not master.takes(timeout_s):
            return way  # which says why it does not get there
        return tuple(_shared(way, "no", path))

    def close(self) -> None:
        with self._lock:
            for master, _ in self._masters.values():
                master.end()
            self._masters.clear()
            if self._directory is not None:
                self._directory.cleanup()


def _shared(way: Sequence[str], master: str, path: Path) -> list[str]:
    new = dict(zip(_ALONE, (f"ControlMaster={master}", f"ControlPath={path}"), strict=True))
    return [new.get(word, word) for word in way]


_open: list[_Masters] = []
"""Those of the command that runs; at most one."""


@contextmanager
def sharing_jumps() -> Iterator[None]:
    """Within the block each jump host is logged in at once, however often it leads to nodes.

    One within another is the outer one.
    """
    if _open:
        yield
        return
    _open.append(_Masters())
    try:
        yield
    finally:
        _open.pop().close()


def share_jump(way: Sequence[str], timeout_s: float) -> tuple[str, ...]:
    """`way`, through what this command has logged in with before, if it leads over a jump host.

    Anything else than a way of ours over a jump host is returned as it is.
    """
    words = tuple(way)
    is_jump = words[:1] == ("ssh",) and {*_ALONE, _FORWARD} <= {*words}
    if not _open or not is_jump:
        return words
    return _open[0].through(words, timeout_s)
